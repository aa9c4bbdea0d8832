// How an instance is printed: as it is, but for its password, which only reading the field gives.
'use strict';

const { private_keys } = require('./state');

const INSPECT = Symbol.for('nodejs.util.inspect.custom');
const HIDDEN = '[hidden]';

// What was printed for an instance, so that one which refers to itself is recognised as such.
const copies = new WeakMap();

/** For util.inspect: a look-alike of the same class, which is then printed in the usual way. */
function inspectable(instance) {
  let copy = copies.get(instance);
  if (copy === undefined) {
    copy = Object.create(Object.getPrototypeOf(instance));
    copies.set(instance, copy);
  }
  for (const key of Reflect.ownKeys(copy)) delete copy[key];
  for (const key of Reflect.ownKeys(instance)) {
    if (private_keys.includes(key)) continue;
    const descriptor = Object.getOwnPropertyDescriptor(instance, key);
    descriptor.configurable = true;
    if (key === 'password' && 'value' in descriptor && descriptor.value) descriptor.value = HIDDEN;
    Object.defineProperty(copy, key, descriptor);
  }
  // Else it would be asked in turn how it wants to be printed.
  Object.defineProperty(copy, INSPECT, { value: undefined, configurable: true });
  return copy;
}

/** For JSON.stringify. */
function serialisable(instance) {
  const fields = Object.assign({}, instance);
  if (fields.password) fields.password = HIDDEN;
  return fields;
}

module.exports = { INSPECT, inspectable, serialisable };
