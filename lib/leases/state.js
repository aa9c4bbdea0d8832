// The private state of an instance: made at its first call, and hidden from whoever lists or prints the instance.
'use strict';

const { Holding } = require('./holding');
const { define_non_enumerable } = require('../properties');

// Symbols, not a WeakMap: they are found through a Proxy as well. Each holds a function that returns the value. A Proxy such
// as Vue's reactive() wraps every object that is read through it, and a wrapped native object does not work.
const STATE = Symbol('redis-reservation state');
const OPTIONS = Symbol('redis-reservation options');

// By instance, for those that could take no symbol: frozen, sealed or made non-extensible before their first call.
const of_non_extensible = { [STATE]: new WeakMap(), [OPTIONS]: new WeakMap() };

// Ids may repeat after this many: they are only compared among instances that wait at the same time.
const LARGEST_ID = Math.pow(2, 30);
let next_id = 0;

// `made`, before the first native object.
const NOTHING_MADE = { native: null, fields: null, settings: null };

class State extends Holding {
  constructor() {
    super();
    // The native object, and the fields and settings that it was made from. Instances with equal fields share them.
    this.made = NOTHING_MADE;
    // The pending wait; or, for more than one, name -> Set of waits in order of arrival; null for none. Measured: a Map for a
    // single wait takes 335 bytes more, and 0.8 µs.
    this.waits = null;
    // Tells instances of_non_extensible on the native side.
    this.id = next_id;
    next_id = (next_id + 1) % LARGEST_ID;
  }

  get native() {
    return this.made.native;
  }

  get settings() {
    return this.made.settings;
  }

  /** The value of a lease's key in redis. Only the native side keeps it. */
  value_of(lease) {
    return this.native.value_of(lease.handle);
  }
}

/** The state of an instance; undefined before its first call. State on its prototype belongs to another instance. */
function peek(instance) {
  if (Object.prototype.hasOwnProperty.call(instance, STATE)) return instance[STATE]();
  return Object.isExtensible(instance) ? undefined : of_non_extensible[STATE].get(instance);
}

function state_of(instance) {
  const state = peek(instance);
  return state === undefined ? attach(instance, STATE, new State()) : state;
}

/** Keeps the constructor's eighth argument, under a symbol: subclasses have an `options` field of their own. */
function keep_options(instance, options) {
  attach(instance, OPTIONS, options);
}

function options_of(instance) {
  const get = instance[OPTIONS];
  if (get !== undefined) return get();
  return Object.isExtensible(instance) ? undefined : of_non_extensible[OPTIONS].get(instance);
}

function attach(instance, key, thing) {
  if (Object.isExtensible(instance)) {
    define_non_enumerable(instance, key, () => thing);
  } else {
    of_non_extensible[key].set(instance, thing);
  }
  return thing;
}

module.exports = { peek, state_of, keep_options, options_of, private_keys: [STATE, OPTIONS] };
