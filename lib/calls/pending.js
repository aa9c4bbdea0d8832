// What the native side owes: the calls that it has not answered yet, and the leases that it may tell of, each by its
// number. Numbers and not functions cross the border, since each value that does costs more than the call itself.
'use strict';

// By number; undefined where it is vacant.
const calls = [];
const vacant = [];
const leases = [];

/** Makes a call by its number, under which it is answered. */
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

/** The call is answered, or was not made after all. */
function settle(number) {
  const call = calls[number];
  calls[number] = undefined;
  vacant.push(number);
  return call;
}

/** The call of a number, while it has no answer. */
function call_of(number) {
  return calls[number];
}

/** Whether any call has no answer yet. */
function any_pending() {
  return calls.length > vacant.length;
}

/** A lease is held, so it and its instance stay alive. The native side chooses the number. */
function keep(handle, lease) {
  leases[handle] = lease;
}

/** It is over. One that had lapsed is given up by `native`: no release tells of it any more. */
function let_go(lease, native) {
  if (leases[lease.handle] === lease) {
    leases[lease.handle] = undefined;
    return;
  }
  if (unclaimed !== null) unclaimed.unregister(lease);
  native.forget(lease.handle);
}

// Leases that lapsed, which only a release tells: should their instances be collected before, none can come any more.
// Absent from the oldest runtimes.
const unclaimed =
  typeof globalThis.FinalizationRegistry === 'function'
    ? new globalThis.FinalizationRegistry(({ native, handle }) => native.forget(handle))
    : null;

/** Its time ran out after a release that had failed. It keeps its instance alive no longer. */
function lapse(lease, native) {
  leases[lease.handle] = undefined;
  if (unclaimed !== null) unclaimed.register(lease, { native, handle: lease.handle }, lease);
}

/** Whether a lease that is held lapsed. */
function has_lapsed(lease) {
  return leases[lease.handle] !== lease;
}

function lease_of(handle) {
  return leases[handle];
}

module.exports = { ask, settle, call_of, any_pending, keep, let_go, lapse, has_lapsed, lease_of };
