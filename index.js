// The public constructor and its methods: what callers extend, construct, print and export. All that happens in a call is
// in lib/. Sloppy on purpose, and a plain function: CoffeeScript 1 and ES5 call it on objects of their own making.

const { EventEmitter } = require('events');
const acquire = require('./lib/calls/acquire');
const { resource_name } = require('./lib/arguments/values');
const { is_one_object, parts_of } = require('./lib/arguments/construct');
const { handle_for, is_handle } = require('./lib/calls/endpoint');
const { classes } = require('./lib/errors');
const { logger_for } = require('./lib/telling/log');
const { holds, holds_all } = require('./lib/leases/native');
const { set_base } = require('./lib/calls/overridden');
const { INSPECT, inspectable, serialisable } = require('./lib/telling/print');
const after = require('./lib/calls/release');
const { astray, is_astray, tell_of_heartbeat, without_instance } = require('./lib/calls/slips');
const { keep_options, options_of, peek, state_of } = require('./lib/leases/state');

// `options` has a default so that `length` stays 7, what it was before there were options.
function ReserveResource(by, host, port, heartbeat_interval, lock_ttl, log, password, options = undefined) {
  // Called without `new`: on nothing, or as a member of the module.
  if (this === globalThis || this === ReserveResource) {
    return new ReserveResource(by, host, port, heartbeat_interval, lock_ttl, log, password, options);
  }
  // Given one object, all of them are in it.
  if (
    typeof by === 'object' &&
    is_one_object([by, host, port, heartbeat_interval, lock_ttl, log, password, options])
  ) {
    const { fields, options: others } = parts_of(by);
    ({ by, host, port, heartbeat_interval, lock_ttl, log, password } = fields);
    options = others;
  }
  // Nothing but these, in this order, always: they are stored by the million.
  this.by = by;
  this.host = host;
  this.port = port;
  this.heartbeat_interval = heartbeat_interval;
  this.lock_ttl = lock_ttl;
  this.metadata = log == null ? {} : log;
  this.password = password == null ? '' : password;
  this._lost_reservation = false;
  this.identifier = process.env.JOB_ID || process.pid;
  if (options != null) keep_options(this, options);
}

// Not by a call of its constructor, which would store fields in every instance: on, once and emit do without.
Object.setPrototypeOf(ReserveResource.prototype, EventEmitter.prototype);

ReserveResource.prototype.lock = function lock(resource, callback, ...others) {
  if (is_astray(this)) return astray('lock', this, [resource, callback, ...others]);
  return acquire.lock(this, resource, callback, others[0]);
};

ReserveResource.prototype.wait_until_lock = function wait_until_lock(resource, options, callback) {
  if (is_astray(this)) return astray('wait_until_lock', this, [resource, options, callback]);
  return acquire.wait_until_lock(this, resource, options, callback);
};

ReserveResource.prototype.release = function release(...parameters) {
  if (is_astray(this)) return astray('release', this, parameters);
  return after.release(this, parameters);
};

ReserveResource.prototype.ensure_reservation = function ensure_reservation(callback) {
  if (is_astray(this)) return astray('ensure_reservation', this, [callback]);
  return after.ensure_reservation(this, callback);
};

ReserveResource.prototype._ensure_reservation = function _ensure_reservation(callback) {
  if (is_astray(this)) return astray('_ensure_reservation', this, [callback]);
  return this.ensure_reservation(callback);
};

ReserveResource.prototype._set_expiration = function _set_expiration(callback) {
  if (is_astray(this)) return astray('_set_expiration', this, [callback]);
  return after.set_expiration(this, callback);
};

ReserveResource.prototype._init_redis = function _init_redis() {
  if (is_astray(this)) throw without_instance('_init_redis', this);
  const handle = handle_for(this.host, this.port, this.password, options_of(this));
  // What somebody else put there stays, for the next call to refuse; a handle of ours follows the fields.
  if (this._redis !== handle && (this._redis == null || is_handle(this._redis))) this._redis = handle;
  return this._redis;
};

ReserveResource.prototype.is_held = function is_held(resource) {
  if (is_astray(this)) throw without_instance('is_held', this);
  const state = peek(this);
  if (state === undefined) return false;
  try {
    return holds(state, resource_name(resource));
  } catch (_) {
    // What cannot be a resource is not held.
    return false;
  }
};

// Not enumerable: code that copies a prototype's members would read them off the prototype. Each can be assigned, for
// a subclass may have had a field of that name before there was this one.
function accessor(name, get) {
  Object.defineProperty(ReserveResource.prototype, name, {
    get,
    set(value) {
      Object.defineProperty(this, name, { value, writable: true, configurable: true, enumerable: true });
    },
    configurable: true,
    enumerable: false,
  });
}

accessor('held', function () {
  const state = peek(this);
  return state !== undefined && holds_all(state);
});

accessor('signal', function () {
  const state = peek(this);
  return state === undefined ? undefined : state.signal();
});

accessor('logger', function () {
  // Asked of the prototype itself: one that were kept there would be everybody's.
  if (this === ReserveResource.prototype) return undefined;
  const logger = logger_for(this);
  // One that was frozen gets another at each line.
  if (Object.isExtensible(this)) this.logger = logger;
  return logger;
});

// 0.4.0's timer. Code that clears it means to stop the renewal, which it would not: it is told, once an instance.
accessor('_heartbeat', function () {
  if (this !== ReserveResource.prototype) tell_of_heartbeat(this);
  return undefined;
});

function hide(object, name, value) {
  Object.defineProperty(object, name, { value, writable: true, configurable: true, enumerable: false });
}

hide(ReserveResource.prototype, INSPECT, function () {
  return inspectable(this);
});

hide(ReserveResource.prototype, 'toJSON', function () {
  return serialisable(this);
});

set_base(ReserveResource.prototype);

// V8 gives the objects of a constructor room for as many fields as its first eight turned out to have. These have all that
// an instance has while it holds a lock; without them some of it would be in an array beside each instance.
for (let count = 0; count < 8; count++) {
  const instance = new ReserveResource();
  instance._redis = null;
  state_of(instance);
  instance._reserve_key = '';
  instance._reserve_val = '';
}

module.exports = ReserveResource;

// What else can be imported. Not enumerable, for CoffeeScript 1 copies enumerable members onto every subclass; writable, for
// subclasses export their own `default`.
const names = { default: ReserveResource, ReserveResource, ...classes };
for (const name of Object.keys(names)) hide(ReserveResource, name, names[name]);

// Never run: Node's scan for the names that `import { … } from` may ask for reads it.
// eslint-disable-next-line no-constant-binary-expression
0 &&
  (exports.default =
    exports.ReserveResource =
    exports.ReservationError =
    exports.InvalidArgumentError =
    exports.RedisConnectionError =
    exports.RedisAuthError =
    exports.RedisReplyError =
    exports.RedisTimeoutError =
    exports.ReservationLostError =
    exports.ReservationNotHeldError =
    exports.ReservationTimeoutError =
    exports.TooFewReplicasError =
    exports.NativeLoadError =
      0);
