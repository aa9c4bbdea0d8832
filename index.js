// The public constructor, its methods and the exports. What a call does is in lib/. A plain function in sloppy mode on
// purpose: subclasses in CoffeeScript 1 and ES5 call it on objects that they have made themselves.

const { EventEmitter } = require('events');
const acquire = require('./lib/calls/acquire');
const { resource_name } = require('./lib/arguments/values');
const { is_one_object, parts_of } = require('./lib/arguments/construct');
const { handle_for, is_handle } = require('./lib/calls/endpoint');
const { classes } = require('./lib/errors');
const { define_enumerable, define_non_enumerable } = require('./lib/properties');
const { logger_for } = require('./lib/telling/log');
const { holds, holds_all } = require('./lib/leases/native');
const { set_base } = require('./lib/calls/overridden');
const { INSPECT, inspectable, serialisable } = require('./lib/telling/print');
const after = require('./lib/calls/release');
const { answer_detached, is_detached, tell_of_heartbeat, detached_error } = require('./lib/calls/misuse');
const { keep_options, options_of, peek, state_of } = require('./lib/leases/state');

// The default of `options` keeps `length` at 7, as it was in 0.4.0.
function ReserveResource(by, host, port, heartbeat_interval, lock_ttl, log, password, options = undefined) {
  // Called without `new`, as a function or as a member of the module.
  if (this === globalThis || this === ReserveResource) {
    return new ReserveResource(by, host, port, heartbeat_interval, lock_ttl, log, password, options);
  }
  // One object with all arguments and options.
  if (
    typeof by === 'object' &&
    is_one_object([by, host, port, heartbeat_interval, lock_ttl, log, password, options])
  ) {
    const { fields, options: others } = parts_of(by);
    ({ by, host, port, heartbeat_interval, lock_ttl, log, password } = fields);
    options = others;
  }
  // Always the same fields in the same order, so that V8 gives all instances one hidden class: there may be millions.
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

// The EventEmitter constructor is not called: it would add fields to every instance. on, once and emit do without it.
Object.setPrototypeOf(ReserveResource.prototype, EventEmitter.prototype);

ReserveResource.prototype.lock = function lock(resource, callback, ...others) {
  if (is_detached(this)) return answer_detached('lock', this, [resource, callback, ...others]);
  return acquire.lock(this, resource, callback, others[0]);
};

ReserveResource.prototype.wait_until_lock = function wait_until_lock(resource, options, callback) {
  if (is_detached(this)) return answer_detached('wait_until_lock', this, [resource, options, callback]);
  return acquire.wait_until_lock(this, resource, options, callback);
};

ReserveResource.prototype.release = function release(...parameters) {
  if (is_detached(this)) return answer_detached('release', this, parameters);
  return after.release(this, parameters);
};

ReserveResource.prototype.ensure_reservation = function ensure_reservation(callback) {
  if (is_detached(this)) return answer_detached('ensure_reservation', this, [callback]);
  return after.ensure_reservation(this, callback);
};

ReserveResource.prototype._ensure_reservation = function _ensure_reservation(callback) {
  if (is_detached(this)) return answer_detached('_ensure_reservation', this, [callback]);
  return this.ensure_reservation(callback);
};

ReserveResource.prototype._set_expiration = function _set_expiration(callback) {
  if (is_detached(this)) return answer_detached('_set_expiration', this, [callback]);
  return after.set_expiration(this, callback);
};

ReserveResource.prototype._init_redis = function _init_redis() {
  if (is_detached(this)) throw detached_error('_init_redis', this);
  const handle = handle_for(this.host, this.port, this.password, options_of(this));
  // A handle of ours is replaced when the fields change. Anything else stays, and the next call refuses it.
  if (this._redis !== handle && (this._redis == null || is_handle(this._redis))) this._redis = handle;
  return this._redis;
};

ReserveResource.prototype.is_held = function is_held(resource) {
  if (is_detached(this)) throw detached_error('is_held', this);
  const state = peek(this);
  if (state === undefined) return false;
  try {
    return holds(state, resource_name(resource));
  } catch (_) {
    // An invalid resource is not held.
    return false;
  }
};

// Not enumerable, since code that copies a prototype's members would call the getter on the prototype. Assignable, since
// subclasses written for 0.4.0 may have a field of the same name.
function accessor(name, get) {
  Object.defineProperty(ReserveResource.prototype, name, {
    get,
    set(value) {
      define_enumerable(this, name, value);
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
  // Read on the prototype itself: a logger kept there would be shared by all instances.
  if (this === ReserveResource.prototype) return undefined;
  const logger = logger_for(this);
  // A frozen instance gets a new one at each read.
  if (Object.isExtensible(this)) this.logger = logger;
  return logger;
});

// 0.4.0's timer. Code clears it to stop the renewal, which has no effect here: a warning says so, once an instance.
accessor('_heartbeat', function () {
  if (this !== ReserveResource.prototype) tell_of_heartbeat(this);
  return undefined;
});

define_non_enumerable(ReserveResource.prototype, INSPECT, function () {
  return inspectable(this);
});

define_non_enumerable(ReserveResource.prototype, 'toJSON', function () {
  return serialisable(this);
});

set_base(ReserveResource.prototype);

// V8 reserves in-object space for as many fields as the first eight instances have. These eight have all fields of an instance
// that holds a lock; without them, V8 would put some into a separate array for each instance.
for (let count = 0; count < 8; count++) {
  const instance = new ReserveResource();
  instance._redis = null;
  state_of(instance);
  instance._reserve_key = '';
  instance._reserve_val = '';
}

module.exports = ReserveResource;

// The named exports. Not enumerable, since CoffeeScript 1 copies enumerable members onto every subclass; writable, since
// subclasses export their own `default`.
const names = { default: ReserveResource, ReserveResource, ...classes };
for (const name of Object.keys(names)) define_non_enumerable(ReserveResource, name, names[name]);

// Never run. Node scans the source for it to find the names that `import { … } from` can use.
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
