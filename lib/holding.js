// What one instance holds, as its caller sees it: `_reserve_key` and `_reserve_val`, `signal`, the losses that nobody
// was told of yet, and the timer for subclasses that renew in their own way. Whether a lease still stands at this
// instant is not known here: the native side decides that by its clock.
'use strict';

const { abort } = require('./abort');
const { keep, let_go } = require('./calls');
const { run_in, shared } = require('./context');

const LONGEST_TIMER = Math.pow(2, 31) - 1;
const NONE = new Map();

// There may be a hundred thousand leases in a process, in one instance or in as many: what few of them need is made when
// it is needed.
class Lease {
  constructor(instance, key, val, handle, scope) {
    this.instance = instance;
    this.key = key;
    this.val = val;
    // Its number on the native side.
    this.handle = handle;
    // The async context of the call that took it.
    this.scope = scope;
    this.releasing = false;
    // Its time ran out after a release that had failed: only the next release tells of it.
    this.lapsed = false;
    // The ones taken before and after it, of those that are held.
    this.older = null;
    this.newer = null;
  }
}

class Holding {
  constructor() {
    this.size = 0;
    this.newest = null;
    // key -> lease. Null while there is but one.
    this.by_key = null;
    // key -> error: losses that no listener, callback or exception told yet. Null while there is none, as nearly always.
    this.untold = null;
    // One period lasts from the first acquisition until nothing is held; these two belong to it.
    this.controller = null;
    this.loss = null;
    this.timer = null;
  }

  get(key) {
    if (this.by_key !== null) return this.by_key.get(key);
    return this.newest !== null && this.newest.key === key ? this.newest : undefined;
  }

  /** All leases, the oldest first. */
  all() {
    const leases = [];
    for (let lease = this.newest; lease !== null; lease = lease.older) leases.push(lease);
    return leases.reverse();
  }

  add(instance, key, val, handle, scope) {
    const former = this.get(key);
    if (former !== undefined) this.forget(former);
    const lease = new Lease(instance, key, val, handle, shared(scope));
    keep(handle, lease);
    lease.older = this.newest;
    if (this.newest !== null) this.newest.newer = lease;
    this.newest = lease;
    this.size += 1;
    if (this.by_key !== null) this.by_key.set(key, lease);
    else if (this.size > 1) this.by_key = new Map(this.all().map((one) => [one.key, one]));
    // Taken anew by the same caller, who has gone on: the old loss is no news any more.
    if (this.untold !== null) this.take_untold([key]);
    if (instance._lost_reservation !== false) assign(instance, '_lost_reservation', false);
    this.name_latest(instance);
    return lease;
  }

  /** Forgets leases that were released or lost. */
  drop(instance, leases) {
    for (const lease of leases) if (this.get(lease.key) === lease) this.forget(lease);
    this.name_latest(instance);
    if (this.size > 0) return;
    this.by_key = null;
    this.controller = null;
    this.loss = null;
    this.stop_timer();
  }

  forget(lease) {
    let_go(lease);
    const { older, newer } = lease;
    if (older !== null) older.newer = newer;
    if (newer !== null) newer.older = older;
    else this.newest = older;
    // Not from it to the others: whoever keeps it keeps none of them.
    lease.older = null;
    lease.newer = null;
    this.size -= 1;
    if (this.by_key !== null) this.by_key.delete(lease.key);
  }

  /** A lease is gone. The signal hears of it here; telling the caller is left to whoever found out. */
  lose(instance, lease, error) {
    assign(instance, '_lost_reservation', true);
    const { controller } = this;
    if (this.loss === null) this.loss = error;
    this.drop(instance, [lease]);
    if (controller !== null) run_in(lease.scope, abort, controller, error);
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
    const latest = this.newest;
    if (latest === null) {
      // In this order: an object whose youngest field goes stays a fast one.
      Reflect.deleteProperty(instance, '_reserve_val');
      Reflect.deleteProperty(instance, '_reserve_key');
      return;
    }
    if (instance._reserve_val === latest.val && instance._reserve_key === latest.key) return;
    assign(instance, '_reserve_key', latest.key);
    assign(instance, '_reserve_val', latest.val);
  }

  /** Made at the first look, for most callers never ask. Undefined while nothing is held, and on old runtimes. */
  signal() {
    if (this.size === 0 || typeof AbortController !== 'function') return undefined;
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
