// How an instance is printed: as it is, but for its password, as a field or in a URL. Only reading the field
// gives it.
'use strict';

const { are_options } = require('../arguments/construct');
const { private_keys } = require('../leases/state');
const { HIDDEN, without_secrets } = require('../arguments/url');

const INSPECT = Symbol.for('nodejs.util.inspect.custom');

// Where a URL may stand, or the connection string of another client.
const PLACES = ['host', 'port'];

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
    if (key === 'metadata' && are_options(descriptor.value)) descriptor.value = HIDDEN;
    if (PLACES.includes(key) && 'value' in descriptor) descriptor.value = without_secrets(descriptor.value);
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
  if (are_options(fields.metadata)) fields.metadata = HIDDEN;
  for (const key of PLACES) if (key in fields) fields[key] = without_secrets(fields[key]);
  return fields;
}

module.exports = { INSPECT, inspectable, serialisable };
