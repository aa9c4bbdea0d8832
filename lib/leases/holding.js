// The leases of one instance, as its caller sees them: `_reserve_key`, `_reserve_val`, `signal`, unreported losses, and the
// timer for overridden renewals. Whether a lease is valid right now is not known here: the native side decides that by its
// clock. It also keeps the values of the keys.
'use strict';

const { abort, make_controller } = require('../telling/abort');
const { add_lease, remove_lease } = require('../calls/pending');
const { run_in } = require('../calls/call');
const { LONGEST_TIMER, clearTimeout, setTimeout } = require('../timers');

const NONE = new Map();

// A process may have 100,000 leases, in one instance or in as many, so what few of them need is made on demand.
class Lease {
  constructor(instance, key, handle, scope) {
    this.instance = instance;
    this.key = key;
    // Its number on the native side.
    this.handle = handle;
    // The async context of the call that took it.
    this.scope = scope;
    // Whether a release of it is pending. The native phase cannot tell: while JavaScript reads the first letter of a delivery,
    // the phase already reflects the last.
    this.releasing = false;
  }
}

/** The leases of an instance that holds more than one. */
class Leases {
  constructor(first) {
    // key -> lease, oldest first.
    this.by_key = new Map([[first.key, first]]);
    this.newest = first;
    // The same as an array, since a Map gives no access to its last entry. Made when the newest lease goes; may contain leases
    // that are gone.
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

/** The leases of an instance. A subclass supplies `native` and `value_of(lease)`. */
class Holding {
  constructor() {
    // Null, the only Lease, or Leases if there was a second one. Measured: a Map for a single lease takes 230 bytes a held
    // lock more, and makes lock and release 0.7 µs slower.
    this.held = null;
    // key -> error: losses that no listener, callback or exception has reported. Null for none, as nearly always.
    this.untold = null;
    // The AbortController and the first loss of the current period. A period lasts from an acquisition until nothing is held;
    // after a loss, until the next acquisition.
    this.controller = null;
    this.loss = null;
    this.timer = null;
    // True while the timer for overridden renewals is inside the subclass's method.
    this.beating = false;
    // Warnings that are written once an instance.
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

  /** All leases, oldest first. */
  all() {
    if (this.held instanceof Leases) return Array.from(this.held.by_key.values());
    return this.held === null ? [] : [this.held];
  }

  add(instance, key, val, handle, scope) {
    const former = this.get(key);
    if (former !== undefined) this.forget(former);
    if (this.loss !== null) this.end_period();
    const lease = new Lease(instance, key, handle, scope);
    add_lease(handle, lease);
    if (this.held === null) {
      this.held = lease;
    } else {
      if (!(this.held instanceof Leases)) this.held = new Leases(this.held);
      this.held.add(lease);
    }
    // The caller has acquired the key again, so the old loss is not reported any more.
    this.take_untold([key]);
    if (instance._lost_reservation !== false) assign(instance, '_lost_reservation', false);
    set_reserve_fields(instance, lease, val);
    return lease;
  }

  /** Forgets leases that were released or lost. */
  drop(instance, leases) {
    for (const lease of leases) if (this.get(lease.key) === lease) this.forget(lease);
    const latest = this.newest;
    if (latest === null) clear_reserve_fields(instance);
    else if (instance._reserve_key !== latest.key)
      set_reserve_fields(instance, latest, this.value_of(latest));
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
    remove_lease(lease, this.native);
    if (this.held instanceof Leases) this.held.delete(lease);
    else this.held = null;
  }

  /** Removes a lost lease and aborts the signal. Whoever found the loss reports it to the caller. */
  lose(instance, lease, error) {
    assign(instance, '_lost_reservation', true);
    const { controller } = this;
    // For a signal that is first read after the loss.
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

  /** Takes the unreported losses of `keys` (null: of all), as key -> error. From now on they count as reported. */
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

  /** Made when it is first read, which most callers never do. Undefined before a period, and without AbortController. */
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
   * Calls `beat` every `interval()` ms while anything is held; the interval is read each time, since it may change. The timer
   * does not keep the process alive.
   */
  start_timer(interval, beat) {
    if (this.timer !== null) return;
    const sleep = (left) => {
      // A longer interval is split.
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

/** `_reserve_key` and `_reserve_val` are those of the newest lease that is still held. */
function set_reserve_fields(instance, lease, val) {
  assign(instance, '_reserve_key', lease.key);
  assign(instance, '_reserve_val', val);
}

function clear_reserve_fields(instance) {
  // Last field first: V8 keeps an object fast only if its newest field is deleted.
  for (const field of ['_reserve_val', '_reserve_key']) {
    // A sealed instance keeps its fields.
    if (!Reflect.deleteProperty(instance, field)) assign(instance, field, undefined);
  }
}

function assign(instance, field, value) {
  try {
    instance[field] = value;
  } catch (_) {
    // The instance is frozen, or a setter of a subclass throws. The lock is held all the same.
  }
}

module.exports = { Holding };
