// What one instance holds, as its caller sees it: `_reserve_key` and `_reserve_val`, `signal`, the losses that nobody
// was told of yet, and the timer for subclasses that renew in their own way. Whether a lease still stands at this
// instant is not known here: the native side decides that by its clock. The values are kept there too.
'use strict';

const { abort, make_controller } = require('../telling/abort');
const { keep, let_go } = require('../calls/pending');
const { run_in } = require('../calls/call');
const { clearTimeout, setTimeout } = require('../timers');

const LONGEST_TIMER = Math.pow(2, 31) - 1;
const NONE = new Map();

// There may be a hundred thousand leases in a process, in one instance or in as many: what few of them need is made when
// it is needed.
class Lease {
  constructor(instance, key, handle, scope) {
    this.instance = instance;
    this.key = key;
    // Its number on the native side.
    this.handle = handle;
    // The async context of the call that took it.
    this.scope = scope;
    // A release of it was asked for, and its answer was not read yet. The native side's phase says something else: while the
    // first letter of a delivery is read, it is past the last one.
    this.releasing = false;
  }
}

/** The leases of an instance that holds more than one. */
class Leases {
  constructor(first) {
    // key -> lease, the oldest first.
    this.by_key = new Map([[first.key, first]]);
    this.newest = first;
    // The same as an array, since a map has no way to its end. Made when the newest goes; those that went since are in it.
    this.order = null;
  }

  add(lease) {
    this.by_key.set(lease.key, lease);
    this.newest = lease;
    if (this.order !== null) this.order.push(lease);
  }

  delete(lease) {
    this.by_key.delete(lease.key);
    if (lease === this.newest) this.newest = this.find_newest();
    if (this.order !== null && this.order.length > 2 * this.by_key.size) this.order = null;
  }

  find_newest() {
    if (this.by_key.size === 0) return null;
    if (this.order === null) this.order = Array.from(this.by_key.values());
    const { by_key, order } = this;
    while (by_key.get(order[order.length - 1].key) !== order[order.length - 1]) order.pop();
    return order[order.length - 1];
  }
}

/** What is held. Whoever extends it brings `native`, and a lease's value by `value_of(lease)`. */
class Holding {
  constructor() {
    // Null, the only lease, or Leases from the second one on.
    this.held = null;
    // key -> error: losses that no listener, callback or exception told yet. Null while there is none, as nearly always.
    this.untold = null;
    // One period lasts from an acquisition until nothing is held; after a loss, until the next acquisition. These belong
    // to it: what its signal is made of, and the first loss in it.
    this.controller = null;
    this.loss = null;
    this.timer = null;
    // True while the timer for overridden renewals is inside the subclass's method.
    this.beating = false;
    // Each is told once an instance.
    this.warned_of_interval = false;
    this.warned_of_heartbeat = false;
  }

  get size() {
    if (this.held instanceof Leases) return this.held.by_key.size;
    return this.held === null ? 0 : 1;
  }

  get newest() {
    return this.held instanceof Leases ? this.held.newest : this.held;
  }

  get(key) {
    if (this.held instanceof Leases) return this.held.by_key.get(key);
    return this.held !== null && this.held.key === key ? this.held : undefined;
  }

  /** All leases, the oldest first. */
  all() {
    if (this.held instanceof Leases) return Array.from(this.held.by_key.values());
    return this.held === null ? [] : [this.held];
  }

  add(instance, key, val, handle, scope) {
    const former = this.get(key);
    if (former !== undefined) this.forget(former);
    if (this.loss !== null) this.end_period();
    const lease = new Lease(instance, key, handle, scope);
    keep(handle, lease);
    if (this.held === null) {
      this.held = lease;
    } else {
      if (!(this.held instanceof Leases)) this.held = new Leases(this.held);
      this.held.add(lease);
    }
    // Taken anew by the same caller, who has gone on: the old loss is no news any more.
    this.take_untold([key]);
    if (instance._lost_reservation !== false) assign(instance, '_lost_reservation', false);
    name(instance, lease, val);
    return lease;
  }

  /** Forgets leases that were released or lost. */
  drop(instance, leases) {
    for (const lease of leases) if (this.get(lease.key) === lease) this.forget(lease);
    const latest = this.newest;
    if (latest === null) unname(instance);
    else if (instance._reserve_key !== latest.key) name(instance, latest, this.value_of(latest));
    if (this.size > 0) return;
    this.held = null;
    this.stop_timer();
    if (this.loss === null) this.end_period();
  }

  end_period() {
    this.controller = null;
    this.loss = null;
  }

  forget(lease) {
    let_go(lease, this.native);
    if (this.held instanceof Leases) this.held.delete(lease);
    else this.held = null;
  }

  /** A lease is gone. The signal hears of it here; telling the caller is left to whoever found out. */
  lose(instance, lease, error) {
    assign(instance, '_lost_reservation', true);
    const { controller } = this;
    // For a signal that is asked for later, by code which does not know yet.
    if (this.loss === null) this.loss = error;
    this.drop(instance, [lease]);
    if (controller !== null) run_in(lease.scope, abort, controller, error);
  }

  keep_untold(key, error) {
    if (this.untold === null) this.untold = new Map();
    this.untold.set(key, error);
  }

  untold_of(key) {
    return this.untold === null ? undefined : this.untold.get(key);
  }

  /** The losses among `keys` (all for null) that nobody was told of, as key -> error; from now on they count as told. */
  take_untold(keys) {
    const { untold } = this;
    if (untold === null) return NONE;
    const taken = new Map();
    for (const key of keys === null ? Array.from(untold.keys()) : keys) {
      if (!untold.has(key)) continue;
      taken.set(key, untold.get(key));
      untold.delete(key);
    }
    if (untold.size === 0) this.untold = null;
    return taken;
  }

  /** Made at the first look, for most callers never ask. Undefined where nothing was held or lost, and on old runtimes. */
  signal() {
    const { loss } = this;
    if ((this.size === 0 && loss === null) || typeof AbortController !== 'function') return undefined;
    if (this.controller === null) {
      this.controller = make_controller();
      if (loss !== null) abort(this.controller, loss);
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
      const timer = setTimeout(() => {
        if (left > piece) return sleep(left - piece);
        sleep(interval());
        return beat();
      }, piece);
      timer.unref();
      this.timer = timer;
    };
    if (interval() !== Infinity) sleep(interval());
  }

  stop_timer() {
    if (this.timer === null) return;
    clearTimeout(this.timer);
    this.timer = null;
  }
}

/** `_reserve_key` and `_reserve_val` name the latest that is still held. */
function name(instance, lease, val) {
  assign(instance, '_reserve_key', lease.key);
  assign(instance, '_reserve_val', val);
}

function unname(instance) {
  // In this order: an object whose youngest field goes stays a fast one.
  for (const field of ['_reserve_val', '_reserve_key']) {
    // One that was sealed while it held keeps its fields.
    if (!Reflect.deleteProperty(instance, field)) assign(instance, field, undefined);
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
