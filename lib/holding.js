// What one instance holds, as its caller sees it: `_reserve_key` and `_reserve_val`, `signal`, the losses that nobody
// was told of yet, and the timer for subclasses that renew in their own way. Whether a lease still stands at this
// instant is not known here: the native side decides that by its clock.
'use strict';

const { abort } = require('./abort');

const LONGEST_TIMER = Math.pow(2, 31) - 1;
const NONE = new Map();

class Holding {
  constructor() {
    // key -> { key, val, call, … }, the call being the one that took it.
    this.leases = new Map();
    // The same leases by age, so that the latest is found without a walk; those given back stay until they surface.
    this.by_age = [];
    // key -> error: losses that no listener, callback or exception told yet. Null while there is none, as nearly always.
    this.untold = null;
    // One period lasts from the first acquisition until nothing is held; these two belong to it.
    this.controller = null;
    this.loss = null;
    this.timer = null;
  }

  get size() {
    return this.leases.size;
  }

  add(instance, key, val, call) {
    const former = this.leases.get(key);
    if (former !== undefined) former.given_up = true;
    const lease = { key, val, call, releasing: false, given_up: false };
    this.leases.set(key, lease);
    this.by_age.push(lease);
    // Taken anew by the same caller, who has gone on: the old loss is no news any more.
    this.take_untold([key]);
    if (instance._lost_reservation !== false) assign(instance, '_lost_reservation', false);
    this.name_latest(instance);
  }

  /** Forgets leases that were released or lost. */
  drop(instance, leases) {
    for (const lease of leases) {
      lease.given_up = true;
      if (this.leases.get(lease.key) === lease) this.leases.delete(lease.key);
    }
    if (this.by_age.length > 2 * this.leases.size + 16) {
      this.by_age = this.by_age.filter((lease) => !lease.given_up);
    }
    this.name_latest(instance);
    if (this.leases.size > 0) return;
    this.controller = null;
    this.loss = null;
    this.stop_timer();
  }

  /** A lease is gone. The signal hears of it here; telling the caller is left to whoever found out. */
  lose(instance, lease, error) {
    assign(instance, '_lost_reservation', true);
    const { controller } = this;
    if (this.loss === null) this.loss = error;
    this.drop(instance, [lease]);
    if (controller !== null) lease.call.run(abort, controller, error);
  }

  keep_untold(key, error) {
    if (this.untold === null) this.untold = new Map();
    this.untold.set(key, error);
  }

  is_untold(key) {
    return this.untold !== null && this.untold.has(key);
  }

  /** The losses among `keys` (all for null) that nobody was told of, as key -> error; from now on they count as told. */
  take_untold(keys) {
    if (this.untold === null) return NONE;
    const taken = new Map();
    for (const key of keys === null ? Array.from(this.untold.keys()) : keys) {
      if (!this.untold.has(key)) continue;
      taken.set(key, this.untold.get(key));
      this.untold.delete(key);
    }
    if (this.untold.size === 0) this.untold = null;
    return taken;
  }

  /** `_reserve_key` and `_reserve_val` name the latest that is still held. */
  name_latest(instance) {
    const { by_age } = this;
    while (by_age.length > 0 && by_age[by_age.length - 1].given_up) by_age.pop();
    if (by_age.length === 0) {
      // In this order: an object whose youngest field goes stays a fast one.
      Reflect.deleteProperty(instance, '_reserve_val');
      Reflect.deleteProperty(instance, '_reserve_key');
      return;
    }
    const latest = by_age[by_age.length - 1];
    if (instance._reserve_val === latest.val && instance._reserve_key === latest.key) return;
    assign(instance, '_reserve_key', latest.key);
    assign(instance, '_reserve_val', latest.val);
  }

  /** Made at the first look, for most callers never ask. Undefined while nothing is held, and on old runtimes. */
  signal() {
    if (this.leases.size === 0 || typeof AbortController !== 'function') return undefined;
    if (this.controller === null) {
      this.controller = new AbortController();
      if (this.loss !== null) abort(this.controller, this.loss);
    }
    return this.controller.signal;
  }

  /**
   * Calls `beat` every `interval` ms while anything is held; `interval` is asked for each time, for it may change.
   * Nothing waits for this timer: it does not keep the process alive.
   */
  start_timer(interval, beat) {
    if (this.timer !== null) return;
    const sleep = (left) => {
      // Timers of more than 2^31 - 1 ms fire at once, so long intervals are slept in pieces.
      const piece = Math.min(left, LONGEST_TIMER);
      this.timer = setTimeout(() => {
        if (left > piece) return sleep(left - piece);
        sleep(interval());
        return beat();
      }, piece);
      this.timer.unref();
    };
    if (interval() !== Infinity) sleep(interval());
  }

  stop_timer() {
    if (this.timer !== null) clearTimeout(this.timer);
    this.timer = null;
  }
}

function assign(instance, field, value) {
  try {
    instance[field] = value;
  } catch (_) {
    // An instance that was frozen, or a subclass that refuses: the lock matters more than its name.
  }
}

module.exports = { Holding };
