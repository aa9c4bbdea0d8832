// `_redis`: what _init_redis() puts on an instance. One handle for each endpoint, credentials and options of a
// connection, which stands for the one that the whole process shares and opens nothing by itself.
'use strict';

const { wrong_value } = require('./arguments');
const { Call } = require('./context');
const { from_native } = require('./errors');
const { load, is_loaded } = require('./load');
const { CONNECTION_OPTIONS, endpoint_from } = require('./location');
const { is_trusted_by_node } = require('./trust');

// Longest that a timer takes; it is only there to be counted by the event loop.
const LONGEST_TIMER = Math.pow(2, 31) - 1;

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
        if (anchor === null) anchor = setInterval(() => {}, LONGEST_TIMER);
        return this;
      },
      unref() {
        if (anchor !== null) clearInterval(anchor);
        anchor = null;
        return this;
      },
      quit(callback) {
        const call = new Call('_redis.quit', callback);
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
      load().disconnect(host, port, password, options, (error, reply) => {
        call.run(() => (error == null ? call.succeed(reply) : call.fail(from_native(error))));
      });
    } catch (error) {
      call.later(() => call.fail(from_native(error)));
    }
  };
}

const handles = new Map();

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
  let handle = handles.get(key);
  if (handle === undefined) {
    handle = new RedisHandle(disconnect_from(() => endpoint));
    handles.set(key, handle);
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
