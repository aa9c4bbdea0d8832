// `_redis`: the handle that _init_redis() puts on an instance. It stands for the process's shared connection to one endpoint,
// and opens nothing by itself. Instances with equal endpoints have the same handle.
'use strict';

const { wrong_value } = require('../arguments/values');
const { ask } = require('./pending');
const { Call } = require('./call');
const { from_native } = require('../errors');
const { listener } = require('../telling/events');
const { load, is_loaded } = require('../load');
const { CONNECTION_OPTIONS, endpoint_from } = require('../arguments/location');
const { define_non_enumerable } = require('../properties');
const { LONGEST_TIMER, clearInterval, setInterval } = require('../timers');
const { is_trusted_by_node } = require('../arguments/tls');

// How many handles are kept where there are no weak references (before Node 14.6).
const MOST_KEPT = 32;

class Quit extends Call {
  constructor(callback) {
    super('_redis.quit', callback);
  }

  done() {
    this.run(() => this.succeed('OK'));
  }

  failed(error) {
    this.run(() => this.fail(error));
  }
}

// The event methods that callers of 0.4.0 use. Accepted; listeners are never called, since there is no client.
const EVENT_METHODS = [
  'on',
  'once',
  'addListener',
  'off',
  'removeListener',
  'removeAllListeners',
  'setMaxListeners',
];

// Methods that would change the shared connection -> the field or option to set instead.
const INSTEAD = { select: 'options.db', auth: 'password, and options.username' };

class RedisHandle {
  // The methods are closures, so that whatever prints a handle finds no password.
  constructor(disconnect) {
    let anchor = null;
    const methods = {
      ref() {
        // The timer only keeps the event loop alive. It holds the handle, so that it is not collected: its `unref` must end
        // this timer.
        if (anchor === null) anchor = setInterval(() => {}, LONGEST_TIMER, this);
        return this;
      },
      unref() {
        if (anchor !== null) clearInterval(anchor);
        anchor = null;
        return this;
      },
      quit(callback) {
        const call = new Quit(callback);
        this.unref();
        disconnect(call);
        return call.promise;
      },
      end() {
        this.quit();
      },
    };
    for (const name of EVENT_METHODS) methods[name] = () => this;
    for (const name of Object.keys(INSTEAD)) {
      // Thrown, not called back: code that ignores the error would lock in the wrong place.
      methods[name] = () => {
        throw wrong_value(
          `_redis.${name}() cannot change the connection, which others share. Set ${INSTEAD[name]} of the constructor.`,
        );
      };
    }
    for (const name of Object.keys(methods)) define_non_enumerable(this, name, methods[name]);
  }
}

/** Closes the shared connection if nothing needs it; it is opened anew by the next call that does. */
function disconnect_from(find) {
  return function disconnect(call) {
    try {
      const { host, port, password, options } = find();
      // Nothing was ever sent, so nothing is open: the native part is not loaded for it.
      if (!is_loaded()) {
        call.later(() => call.succeed('OK'));
        return;
      }
      const { disconnect: ask_to_close } = load();
      ask(call, (number) => ask_to_close(host, port, password, options, listener, number));
    } catch (error) {
      const failure = from_native(error);
      call.later(() => call.fail(failure));
    }
  };
}

// endpoint as text -> its handle, while anybody holds that. The text contains the password, and passwords rotate, so entries
// of collected handles are deleted.
const handles = new Map();

const { WeakRef, FinalizationRegistry } = globalThis;
const collected =
  typeof WeakRef === 'function' && typeof FinalizationRegistry === 'function'
    ? new FinalizationRegistry((key) => {
        // Unless the endpoint has a new handle meanwhile.
        if (live_handle(key) === undefined) handles.delete(key);
      })
    : null;

function live_handle(key) {
  const place = handles.get(key);
  return place === undefined ? undefined : place.deref();
}

function store(key, handle) {
  if (collected !== null) {
    handles.set(key, new WeakRef(handle));
    collected.register(handle, key);
    return;
  }
  handles.set(key, { deref: () => handle });
  // The oldest goes.
  if (handles.size > MOST_KEPT) handles.delete(handles.keys().next().value);
}

// The last look-up: { host, port, password, values, handle }, `values` being those of CONNECTION_OPTIONS. Programs make
// millions of reservations for one endpoint, so a repeated look-up must build no text and allocate nothing.
let last = null;

/** The handle for the fields of an instance. Wrong fields get a handle too: quit() reports them. */
function handle_for(host, port, password, options) {
  if (
    last !== null &&
    host === last.host &&
    port === last.port &&
    password === last.password &&
    are_still(options, last.values)
  ) {
    return last.handle;
  }
  const handle = find_or_make(host, port, password, options);
  const values = options == null ? null : CONNECTION_OPTIONS.map((name) => options[name]);
  last = { host, port, password, values, handle };
  return handle;
}

/** Whether options have the values of the last look-up (null: it had no options). */
function are_still(options, values) {
  if (options == null || values === null) return options == null && values === null;
  for (let index = 0; index < CONNECTION_OPTIONS.length; index++) {
    if (options[CONNECTION_OPTIONS[index]] !== values[index]) return false;
  }
  return true;
}

function find_or_make(host, port, password, options) {
  let endpoint;
  try {
    endpoint = endpoint_from(host, port, password, options);
  } catch (_) {
    // Wrong fields: quit() reports them. Such a handle is not shared.
    return new RedisHandle(disconnect_from(() => endpoint_from(host, port, password, options)));
  }
  const key = JSON.stringify(endpoint, without_node_certificates);
  let handle = live_handle(key);
  if (handle === undefined) {
    handle = new RedisHandle(disconnect_from(() => endpoint));
    store(key, handle);
  }
  return handle;
}

/** A replacer for JSON.stringify: leaves out Node's own certificates, which are many and always the same. */
function without_node_certificates(name, value) {
  return name === 'ca' && is_trusted_by_node(value) ? null : value;
}

/** Whether `value` is a handle of ours, and not something that a caller put in its place. */
function is_handle(value) {
  return value instanceof RedisHandle;
}

module.exports = { handle_for, is_handle };
