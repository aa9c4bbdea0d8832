// `_redis`: what _init_redis() puts on an instance. One handle for each endpoint, credentials and options of a
// connection, which stands for the one that the whole process shares and opens nothing by itself.
'use strict';

const { wrong_value } = require('../arguments/values');
const { ask } = require('./pending');
const { Call } = require('./call');
const { from_native } = require('../errors');
const { listener } = require('../telling/events');
const { load, is_loaded } = require('../load');
const { CONNECTION_OPTIONS, endpoint_from } = require('../arguments/location');
const { clearInterval, setInterval } = require('../timers');
const { is_trusted_by_node } = require('../arguments/tls');

// Longest that a timer takes; it is only there to be counted by the event loop.
const LONGEST_TIMER = Math.pow(2, 31) - 1;

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
// What callers of 0.4.0 ask of a client's events: accepted, and never called, for there is no client to have any.
const EVENT_METHODS = [
  'on',
  'once',
  'addListener',
  'off',
  'removeListener',
  'removeAllListeners',
  'setMaxListeners',
];

// What would change the connection, and the field or option that does.
const INSTEAD = { select: 'options.db', auth: 'password, and options.username' };

class RedisHandle {
  // The password stays in closures: whatever prints a handle finds no more than its methods.
  constructor(disconnect) {
    let anchor = null;
    const methods = {
      ref() {
        // With the handle, so that this very one is found again and its `unref` ends it.
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
      // Thrown, not called back: whoever does not look would lock somewhere else than he means.
      methods[name] = () => {
        throw wrong_value(
          `_redis.${name}() cannot change the connection, which others share. Set ${INSTEAD[name]} of the constructor.`,
        );
      };
    }
    for (const name of Object.keys(methods)) {
      Object.defineProperty(this, name, { value: methods[name], writable: true, configurable: true });
    }
  }
}

/** Closes the shared connection if nothing needs it; it is opened anew by the next call that does. */
function disconnect_from(find) {
  return function disconnect(call) {
    try {
      const { host, port, password, options } = find();
      // Nothing was ever sent, so there is nothing to close: not worth loading the native part for.
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

// The handles that somebody has, by their endpoints. A text of an endpoint holds its password, so what nobody has any more
// goes from here: passwords rotate.
const handles = new Map();

const { WeakRef, FinalizationRegistry } = globalThis;
const abandoned =
  typeof WeakRef === 'function' && typeof FinalizationRegistry === 'function'
    ? new FinalizationRegistry((key) => {
        // Another may have been made for the endpoint meanwhile.
        if (kept(key) === undefined) handles.delete(key);
      })
    : null;

function kept(key) {
  const place = handles.get(key);
  return place === undefined ? undefined : place.deref();
}

function keep(key, handle) {
  if (abandoned !== null) {
    handles.set(key, new WeakRef(handle));
    abandoned.register(handle, key);
    return;
  }
  handles.set(key, { deref: () => handle });
  // The one that has been there for longest.
  if (handles.size > MOST_KEPT) handles.delete(handles.keys().next().value);
}

// The endpoint asked for last, as the fields of its instance were. Programs make reservations by the million for one
// endpoint, so this look-up must build no text and allocate nothing.
let last_host;
let last_port;
let last_password;
// The values of the options that matter to a connection; null for none.
let last_options = null;
let last_handle = null;

/** The handle for an endpoint, given as the fields of an instance: not yet checked, never refused. */
function handle_for(host, port, password, options) {
  if (
    last_handle !== null &&
    host === last_host &&
    port === last_port &&
    password === last_password &&
    are_last(options)
  ) {
    return last_handle;
  }
  const handle = find_or_make(host, port, password, options);
  last_host = host;
  last_port = port;
  last_password = password;
  last_options = options == null ? null : CONNECTION_OPTIONS.map((name) => options[name]);
  last_handle = handle;
  return handle;
}

function are_last(options) {
  if (options == null && last_options === null) return true;
  for (let index = 0; index < CONNECTION_OPTIONS.length; index++) {
    const value = options == null ? undefined : options[CONNECTION_OPTIONS[index]];
    if (value !== (last_options === null ? undefined : last_options[index])) return false;
  }
  return true;
}

function find_or_make(host, port, password, options) {
  let endpoint;
  try {
    endpoint = endpoint_from(host, port, password, options);
  } catch (_) {
    // Not an endpoint: quit() will say so. There is nothing to share.
    return new RedisHandle(disconnect_from(() => endpoint_from(host, port, password, options)));
  }
  const key = JSON.stringify(endpoint, without_node_certificates);
  let handle = kept(key);
  if (handle === undefined) {
    handle = new RedisHandle(disconnect_from(() => endpoint));
    keep(key, handle);
  }
  return handle;
}

/** For the texts of endpoints: hundreds of certificates, always the same, are not written out. */
function without_node_certificates(name, value) {
  return name === 'ca' && is_trusted_by_node(value) ? null : value;
}

/** Whether `value` is a handle of ours, and not something that a caller put in its place. */
function is_handle(value) {
  return value instanceof RedisHandle;
}

module.exports = { handle_for, is_handle };
