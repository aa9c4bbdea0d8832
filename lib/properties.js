// Defining properties as an assignment would, whatever the object's prototype has by that name; and some that loops,
// Object.keys and printouts skip.
'use strict';

function define_enumerable(object, name, value) {
  Object.defineProperty(object, name, { value, writable: true, configurable: true, enumerable: true });
}

function define_non_enumerable(object, name, value) {
  Object.defineProperty(object, name, { value, writable: true, configurable: true, enumerable: false });
}

module.exports = { define_enumerable, define_non_enumerable };
