// What is done with a lock once it is held: release(), ensure_reservation() and _set_expiration(), their answers, their
// lines, and the losses that they find.
'use strict';

const { key_of, resource_name } = require('./arguments');
const { Call } = require('./context');
const { classes, from_native, make_error } = require('./errors');
const log = require('./log');
const loss = require('./loss');
const { native_for } = require('./native');
const { peek } = require('./state');

const NONE = new Set();

/** `parameters` are ([resource,] callback), as given. */
function release(instance, parameters) {
  const named = typeof parameters[0] !== 'function' && (parameters.length > 1 || parameters[0] != null);
  const call = new Call('release', named ? parameters[1] : parameters[0], false);
  if (call.answered) return call.promise;
  let asked = [];
  try {
    const name = named ? resource_name(parameters[0]) : null;
    const state = peek(instance);
    if (state === undefined || state.native === null) {
      call.later(() => call.succeed(0));
      return call.promise;
    }
    const key = name === null ? null : key_of(name, state.settings.key_prefix);
    asked = take_for_release(state.holding, key);
    state.native.release(name, (error, released) => {
      call.run(released_by, instance, state, call, key, asked, from_native(error), released);
    });
  } catch (error) {
    for (const lease of asked) lease.releasing = false;
    call.later(() => call.fail(error));
  }
  return call.promise;
}

/** What this release is to free: not what another one, still under way, frees already. */
function take_for_release({ leases }, key) {
  const wanted = key === null ? Array.from(leases.values()) : leases.has(key) ? [leases.get(key)] : [];
  const asked = wanted.filter((lease) => !lease.releasing);
  for (const lease of asked) lease.releasing = true;
  return asked;
}

/** The answer to a release of `key` (null: of everything); `asked` is what it was to free. */
function released_by(instance, state, call, key, asked, error, count) {
  const { holding } = state;
  const lost = lost_leases(holding, error);
  const failed = failed_leases(holding, key, error);
  const gone = asked.filter(
    (lease) => holding.leases.get(lease.key) === lease && !lost.has(lease) && !failed.has(lease),
  );
  const released = error == null ? count : error.released || 0;
  holding.drop(instance, gone);
  for (const lease of gone) log.info(instance, 'reservation-released', { key: lease.key });
  if (failed.size > 0) log.connection_trouble(instance, error);
  for (const lease of failed) {
    lease.releasing = false;
    log.error(instance, 'reservation-release-failed', { key: lease.key, val: lease.val });
  }
  const answer = settle(instance, state, key, lost, failed, error, released);
  if (answer === null) call.succeed(released);
  else call.fail(answer);
}

/** What redis, or the clock, took from us before: those that nobody was told of. */
function lost_leases(holding, error) {
  if (error == null || !Array.isArray(error.lost)) return NONE;
  const lost = new Set();
  for (const key of error.lost) {
    const lease = holding.leases.get(key);
    if (lease !== undefined) lost.add(lease);
  }
  return lost;
}

/** Those that may be released again. An error that names no keys speaks for all of them. */
function failed_leases(holding, key, error) {
  if (error == null) return NONE;
  let keys = error.failed;
  if (!Array.isArray(keys)) {
    if (Array.isArray(error.lost)) return NONE;
    keys = key === null ? Array.from(holding.leases.keys()) : [key];
  }
  return new Set(keys.map((failed) => holding.leases.get(failed)).filter((lease) => lease !== undefined));
}

/** Records the losses that this call found, and makes the one error that tells them, and those kept for it. */
function settle(instance, state, key, lost, failed, error, released) {
  const { holding } = state;
  for (const lease of lost) loss.record(instance, state, lease, error);
  const kept = holding.take_untold(key === null ? null : [key]);
  if (error == null && kept.size === 0) return null;
  const keys = Array.from(new Set([...Array.from(lost, (lease) => lease.key), ...kept.keys()]));
  const only_loss = error instanceof classes.ReservationLostError;
  if (error != null && !(only_loss && lost.size === 0 && failed.size === 0)) {
    if (keys.length > 0) error.lost = keys;
    return error;
  }
  if (keys.length === 0) return null;
  return loss.combined(Array.from(kept.values()), keys, { released });
}

function ensure_reservation(instance, callback) {
  return renew(instance, new Call('ensure_reservation', callback, true), (call) => call.succeed());
}

/** 0.4.0's inner half of a renewal: (null, whether it was extended). */
function set_expiration(instance, callback) {
  const call = new Call('_set_expiration', callback, true);
  const state = peek(instance);
  if (!call.answered && (state === undefined || state.holding.size === 0)) {
    call.later(() => call.succeed(false));
    return call.promise;
  }
  return renew(instance, call, () => call.succeed(true));
}

function renew(instance, call, succeed) {
  if (call.answered) return call.promise;
  const state = peek(instance);
  try {
    if (state === undefined || state.native === null) throw not_held();
    const { beating } = state;
    native_for(instance, state).ensure_reservation((error) => {
      call.run(renewed, instance, state, call, succeed, from_native(error), beating);
    });
  } catch (error) {
    call.later(() => call.fail(from_native(error)));
  }
  return call.promise;
}

function not_held() {
  return make_error(
    'ERR_RESERVATION_NOT_HELD',
    'There is no reservation to renew: nothing is held. Take one with lock() or wait_until_lock() first.',
  );
}

function renewed(instance, state, call, succeed, error, beating) {
  const { holding } = state;
  const lost = lost_leases(holding, error);
  const only_loss = error instanceof classes.ReservationLostError;
  const nothing_held = error instanceof classes.ReservationNotHeldError;
  if (error == null || only_loss) {
    const duration = `${instance.lock_ttl}s`;
    for (const lease of holding.leases.values()) {
      if (lost.has(lease) || lease.releasing) continue;
      log.info(instance, 'reservation-extended', { key: lease.key, duration, val: lease.val });
    }
  } else if (!nothing_held) {
    log.connection_trouble(instance, error);
    log.error(instance, 'expire-set-failed', { err: error, key: error.key || instance._reserve_key });
  }
  // What was lost before, and is told only now, says more than that nothing is held.
  const found = settle(instance, state, null, lost, NONE, nothing_held ? null : error, undefined);
  const answer = found === null && (nothing_held || (only_loss && holding.size === 0)) ? not_held() : found;
  if (answer === null) {
    succeed(call);
    return;
  }
  call.fail(answer);
  // Called by the timer of a subclass and without a callback, it told nobody but a promise that nobody may hold.
  if (beating && call.callback === null) loss.tell_of_beat(instance, state, call, answer);
}

module.exports = { release, ensure_reservation, set_expiration };
