// Where the private part of an instance lives: made at its first call, out of sight of whoever lists or prints it.
'use strict';

const { Holding } = require('./holding');

// Symbols and not a WeakMap: they are found through a Proxy as well. Under each is a function that gives the thing itself:
// a Proxy that wraps whatever object is read through it, as Vue's reactive() does, would wrap native objects too, which then
// refuse to work.
const STATE = Symbol('redis-reservation state');
const OPTIONS = Symbol('redis-reservation options');

// By instance, for those that were frozen, sealed or made non-extensible before their first call.
const apart = { [STATE]: new WeakMap(), [OPTIONS]: new WeakMap() };

// A small number: it is only compared with those of others that wait at the same time.
const LARGEST_ID = Math.pow(2, 30);
let next_id = 0;

// What is made of fields, before anything is.
const NOTHING_MADE = { native: null, fields: null, settings: null };

class State extends Holding {
  constructor() {
    super();
    // The native object, and the fields and settings that it was made from. Other instances may have the same.
    this.made = NOTHING_MADE;
    // The wait that is under way, or name -> Set of them, in the order in which they came, where there is more than one.
    this.waits = null;
    // Tells instances apart on the native side.
    this.id = next_id;
    next_id = (next_id + 1) % LARGEST_ID;
  }

  get native() {
    return this.made.native;
  }

  get settings() {
    return this.made.settings;
  }

  /** What redis has in the key of a lease: only the native side keeps it. */
  value_of(lease) {
    return this.native.value_of(lease.handle);
  }
}

/** The state of an instance, or undefined if it never had a call. Inherited state is somebody else's. */
function peek(instance) {
  if (Object.prototype.hasOwnProperty.call(instance, STATE)) return instance[STATE]();
  return Object.isExtensible(instance) ? undefined : apart[STATE].get(instance);
}

function state_of(instance) {
  const state = peek(instance);
  return state === undefined ? keep(instance, STATE, new State()) : state;
}

/** The constructor's eighth argument. Under a symbol, for subclasses have an `options` of their own. */
function keep_options(instance, options) {
  keep(instance, OPTIONS, options);
}

function options_of(instance) {
  const get = instance[OPTIONS];
  if (get !== undefined) return get();
  return Object.isExtensible(instance) ? undefined : apart[OPTIONS].get(instance);
}

function keep(instance, key, thing) {
  if (Object.isExtensible(instance)) {
    const value = () => thing;
    Object.defineProperty(instance, key, { value, writable: true, configurable: true, enumerable: false });
  } else {
    apart[key].set(instance, thing);
  }
  return thing;
}

module.exports = { peek, state_of, keep_options, options_of, private_keys: [STATE, OPTIONS] };
