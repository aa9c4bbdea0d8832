// Pending calls and reported leases, by number. Only numbers cross to the native side: a function for each call would cost
// more than the call itself. Being listed here also keeps the instances alive.
'use strict';

// number -> pending call; undefined where the number is vacant.
const calls = [];
const vacant = [];
// handle -> lease that is held.
const leases = [];

/** Registers a call, and submits it by `make(number)`. The answer comes back with that number. */
function ask(call, make) {
  const number = vacant.length > 0 ? vacant.pop() : calls.length;
  calls[number] = call;
  try {
    make(number);
  } catch (error) {
    settle(number);
    throw error;
  }
}

/** Takes a call out: it is answered, or could not be submitted. */
function settle(number) {
  const call = calls[number];
  calls[number] = undefined;
  vacant.push(number);
  return call;
}

/** The pending call of a number. */
function call_of(number) {
  return calls[number];
}

/** Whether any call is pending. */
function any_pending() {
  return calls.length > vacant.length;
}

/** Keeps a lease, and so its instance, alive while it is held. The native side chose the handle. */
function add_lease(handle, lease) {
  leases[handle] = lease;
}

/** The lease is over. If it had lapsed, `native` forgets it as well: no release will report it any more. */
function remove_lease(lease, native) {
  if (leases[lease.handle] === lease) {
    leases[lease.handle] = undefined;
    return;
  }
  if (lapsed !== null) lapsed.unregister(lease);
  native.forget(lease.handle);
}

// Lapsed leases. Only a release reports one; once its instance is garbage-collected, no release can come, and the native
// side forgets the lease. Null on the oldest runtimes, which have no FinalizationRegistry.
const lapsed =
  typeof globalThis.FinalizationRegistry === 'function'
    ? new globalThis.FinalizationRegistry(({ native, handle }) => native.forget(handle))
    : null;

/** The lease ended after a failed release. It no longer keeps its instance alive. */
function lapse(lease, native) {
  leases[lease.handle] = undefined;
  if (lapsed !== null) lapsed.register(lease, { native, handle: lease.handle }, lease);
}

/** Whether a lease that the instance still lists has lapsed. */
function has_lapsed(lease) {
  return leases[lease.handle] !== lease;
}

function lease_of(handle) {
  return leases[handle];
}

/**
 * Releases a lock that no caller has got; `end` is called when that is answered. The result is not reported: if the release
 * fails, the ttl frees the key, and nobody can ask for its number again.
 */
function give_back(native, handle, end = () => {}) {
  const failed = () => {
    native.forget(handle);
    end();
  };
  try {
    ask({ done: end, failed }, (number) => native.release(handle, number));
  } catch (_) {
    end();
  }
}

module.exports = {
  give_back,
  ask,
  settle,
  call_of,
  any_pending,
  add_lease,
  remove_lease,
  lapse,
  has_lapsed,
  lease_of,
};
