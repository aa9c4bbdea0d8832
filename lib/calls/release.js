// Releasing and renewing: release(), ensure_reservation() and _set_expiration(), their answers and log lines, and the losses
// that they find.
'use strict';

const { key_of, resource_name } = require('../arguments/values');
const { ask } = require('./pending');
const { Call } = require('./call');
const { classes, from_native, make_error } = require('../errors');
const log = require('../telling/log');
const loss = require('../telling/loss');
const { handles_of, native_for } = require('../leases/native');
const overridden = require('./overridden');
const { passed_on, wrong_callback } = require('./misuse');
const { peek } = require('../leases/state');

const NONE = new Set();
const NOTHING = [];

/** One release(): of `key`, or of everything (null). `asked` are the leases that it frees. */
class Release extends Call {
  constructor(instance, callback) {
    super('release', callback);
    this.instance = instance;
    this.key = null;
    this.asked = NOTHING;
    // key -> error: losses that were not yet reported when it was called. Its answer reports them.
    this.untold = null;
  }

  get rejects_silently() {
    return false;
  }

  done(count) {
    this.run(released_by, this, null, count);
  }

  failed(error) {
    this.run(released_by, this, error);
  }
}

/** `parameters` as the caller passed them: ([resource,] [callback]). */
function release(instance, parameters) {
  const named = typeof parameters[0] !== 'function' && (parameters.length > 1 || parameters[0] != null);
  const call = new Release(instance, named ? parameters[1] : parameters[0]);
  if (call.answered) return call.promise;
  try {
    const name = named ? resource_name(parameters[0]) : null;
    const state = peek(instance);
    if (named) refuse_passed_on(parameters[0], name, state);
    if (state === undefined || state.native === null) {
      call.later(() => call.succeed(0));
      return call.promise;
    }
    call.key = name === null ? null : key_of(name, state.settings.key_prefix);
    call.asked = take_for_release(state, call.key);
    const handles = call.asked.length === 1 ? call.asked[0].handle : handles_of(call.asked);
    ask(call, (number) => state.native.release(handles, number));
    // Only now: if the request could not be submitted, that error is the answer, and the next release reports the losses.
    call.untold = loss.take_untold(state, keys_of(call));
  } catch (error) {
    for (const lease of call.asked) lease.releasing = false;
    const failure = from_native(error);
    call.later(() => call.fail(failure));
  }
  return call.promise;
}

/** Throws for the value of a promise in place of a resource. A resource that is held is accepted, whatever it looks like. */
function refuse_passed_on(resource, name, state) {
  const settings = state === undefined ? null : state.settings;
  if (settings !== null && state.get(key_of(name, settings.key_prefix)) !== undefined) return;
  const error = passed_on(resource, name, state);
  if (error !== undefined) throw error;
}

/** The leases that this release frees: those that no other pending release frees. Marks them. */
function take_for_release(state, key) {
  const named = key === null ? undefined : state.get(key);
  const wanted = key === null ? state.all() : named === undefined ? [] : [named];
  const asked = wanted.filter((lease) => !lease.releasing);
  for (const lease of asked) lease.releasing = true;
  return asked;
}

/** The keys whose losses a release reports; null for all. */
function keys_of(call) {
  return call.key === null ? null : [call.key];
}

function released_by(call, error, count) {
  const { instance, asked } = call;
  const state = peek(instance);
  const lost = lost_leases(asked, error);
  const failed = failed_leases(asked, error);
  const gone = asked.filter(
    (lease) => state.get(lease.key) === lease && !lost.has(lease) && !failed.has(lease),
  );
  const released = error == null ? count : error.released || 0;
  state.drop(instance, gone);
  for (const lease of gone) log.info(instance, 'reservation-released', { key: lease.key });
  if (failed.size > 0) log.connection_trouble(instance, error);
  for (const lease of failed) {
    lease.releasing = false;
    log.error(instance, 'reservation-release-failed', { key: lease.key, val: state.value_of(lease) });
  }
  const kept = new Map([...call.untold, ...loss.take_untold(state, keys_of(call))]);
  const answer = settle(instance, state, kept, lost, failed, error, released);
  if (answer === null) call.succeed(released);
  else call.fail(answer);
}

/** The leases in `asked` that the error names as lost. Leases that were since acquired under the same keys are not among them. */
function lost_leases(asked, error) {
  return error != null && Array.isArray(error.lost) ? leases_with_keys(asked, error.lost) : NONE;
}

/** The leases that may be released again. An error that names no keys means all of them. */
function failed_leases(asked, error) {
  if (error == null) return NONE;
  if (Array.isArray(error.failed)) return leases_with_keys(asked, error.failed);
  return Array.isArray(error.lost) ? NONE : new Set(asked);
}

function leases_with_keys(leases, keys) {
  const wanted = new Set(keys);
  return new Set(leases.filter((lease) => wanted.has(lease.key)));
}

/** Records the losses that this call found. Returns the one error that reports these and those in `kept`; null for none. */
function settle(instance, state, kept, lost, failed, error, released) {
  for (const lease of lost) loss.record(instance, state, lease, error);
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

/** One ensure_reservation() or _set_expiration(). */
class Renewal extends Call {
  constructor(instance, name, callback, value) {
    super(name, typeof callback === 'function' ? callback : undefined);
    this.instance = instance;
    // The answer on success.
    this.value = value;
    // The leases to renew.
    this.asked = NOTHING;
    // Whether the timer for overridden renewals made the call.
    this.beating = false;
  }

  done() {
    this.run(renewed, this, null);
  }

  failed(error) {
    this.run(renewed, this, error);
  }
}

function ensure_reservation(instance, callback) {
  const call = new Renewal(instance, 'ensure_reservation', callback, undefined);
  if (refused(call, 'ensure_reservation', callback)) return call.promise;
  const state = peek(instance);
  const is_ours = !overridden.is_overridden(instance, '_set_expiration');
  return is_ours || state === undefined || state.size === 0 ? renew(call) : renew_by_calling(call, state);
}

/** Renews by the caller's own _set_expiration. Only its error counts, as in 0.4.0. */
function renew_by_calling(call, state) {
  const { instance } = call;
  call.beating = state.beating;
  overridden.call_method(instance, '_set_expiration', [], (error) => {
    call.later(() => {
      const kept = error === null ? loss.take_untold(state, null) : null;
      const found = kept === null ? error : settle(instance, state, kept, NONE, NONE, null, undefined);
      answer_renewal(call, state, found === null && state.size === 0 ? not_held() : found);
    });
  });
  return call.promise;
}

/** Fails the call if its callback is no function, and returns whether it did. Logs it too: code for 0.4.0 ignores the promise. */
function refused(call, method, callback) {
  const wrong = wrong_callback(method, callback);
  if (wrong === undefined) return false;
  call.later(() => {
    log.error(call.instance, 'expire-set-failed', { err: wrong, key: call.instance._reserve_key });
    call.fail(wrong);
  });
  return true;
}

/** 0.4.0's inner renewal method: its answer is whether anything was extended. */
function set_expiration(instance, callback) {
  const call = new Renewal(instance, '_set_expiration', callback, true);
  if (refused(call, '_set_expiration', callback)) return call.promise;
  const state = peek(instance);
  if (state === undefined || state.size === 0) {
    call.later(() => call.succeed(false));
    return call.promise;
  }
  return renew(call);
}

function renew(call) {
  const { instance } = call;
  const state = peek(instance);
  try {
    if (state === undefined || state.native === null) throw not_held();
    call.beating = state.beating;
    const native = native_for(instance, state);
    call.asked = state.all();
    ask(call, (number) => native.ensure_reservation(handles_of(call.asked), number));
  } catch (error) {
    const failure = from_native(error);
    call.later(() => call.fail(failure));
  }
  return call.promise;
}

function not_held() {
  return make_error(
    'ERR_RESERVATION_NOT_HELD',
    'There is no reservation to renew: nothing is held. Take one with lock() or wait_until_lock() first.',
  );
}

function renewed(call, error) {
  const { instance, asked } = call;
  const state = peek(instance);
  const lost = lost_leases(asked, error);
  const only_loss = error instanceof classes.ReservationLostError;
  const nothing_held = error instanceof classes.ReservationNotHeldError;
  // An error says nothing of the leases that it does not name, so only success logs them as extended.
  if (error == null) {
    const duration = `${instance.lock_ttl}s`;
    for (const lease of asked) {
      if (state.get(lease.key) !== lease || lease.releasing) continue;
      log.info(instance, 'reservation-extended', { key: lease.key, duration, val: state.value_of(lease) });
    }
  } else if (!nothing_held && !only_loss) {
    log.connection_trouble(instance, error);
    log.error(instance, 'expire-set-failed', { err: error, key: error.key || instance._reserve_key });
  }
  // An earlier loss that is reported only now says more than that nothing is held.
  const found = settle(
    instance,
    state,
    loss.take_untold(state, null),
    lost,
    NONE,
    nothing_held ? null : error,
    undefined,
  );
  const answer = found === null && (nothing_held || (only_loss && state.size === 0)) ? not_held() : found;
  answer_renewal(call, state, answer);
}

function answer_renewal(call, state, error) {
  if (error === null) {
    call.succeed(call.value);
    return;
  }
  call.fail(error);
  // Called by the timer and without a callback: the promise may have no reader, so the loss is reported here.
  if (call.beating && call.promise !== undefined) loss.tell_of_beat(call.instance, state, call.scope, error);
}

module.exports = { release, ensure_reservation, set_expiration };
