// Printing an instance: as it is, but with its password hidden, as a field or in a URL. Only reading the field gives it.
'use strict';

const { are_options } = require('../arguments/construct');
const { private_keys } = require('../leases/state');
const { HIDDEN, without_secrets } = require('../arguments/url');

const INSPECT = Symbol.for('nodejs.util.inspect.custom');

// Fields that may hold a URL, or another client's connection string, with a password in it.
const PLACES = ['host', 'port'];

// instance -> the copy that was printed, so that util.inspect recognises circular references.
const copies = new WeakMap();

/** For util.inspect: a copy of the same class without secrets, which is printed in the usual way. */
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
  // Otherwise util.inspect would call the custom function of the copy too.
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
