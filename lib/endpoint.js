// `_redis`: what _init_redis() puts on an instance. One handle for each endpoint and credentials, which stands for
// the connection that the whole process shares and opens nothing by itself.
'use strict';

const { host_from, port_from, password_from } = require('./arguments');
const { Call } = require('./context');
const { from_native } = require('./errors');
const { load, is_loaded } = require('./load');

// Longest that a timer takes; it is only there to be counted by the event loop.
const LONGEST_TIMER = Math.pow(2, 31) - 1;

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
        const call = new Call('_redis.quit', callback, true);
        this.unref();
        disconnect(call);
        return call.promise;
      },
      end() {
        this.quit();
      },
    };
    for (const name of Object.keys(methods)) {
      Object.defineProperty(this, name, { value: methods[name], writable: true, configurable: true });
    }
  }
}

/** Closes the shared connection if nothing needs it; it is opened anew by the next call that does. */
function disconnect_from(host, port, password) {
  return function disconnect(call) {
    try {
      const endpoint = [host_from(host), port_from(port), password_from(password)];
      // Nothing was ever sent, so there is nothing to close: not worth loading the native part for.
      if (!is_loaded()) {
        call.later(() => call.succeed('OK'));
        return;
      }
      load().disconnect(endpoint[0], endpoint[1], endpoint[2], (error, reply) => {
        call.run(() => (error == null ? call.succeed(reply) : call.fail(from_native(error))));
      });
    } catch (error) {
      call.later(() => call.fail(error));
    }
  };
}

const handles = new Map();

// The endpoint asked for last, as the fields of its instance were. Programs make reservations by the million for one
// endpoint, so this look-up must build no text and allocate nothing.
let last_host;
let last_port;
let last_password;
let last_handle = null;

/** The handle for an endpoint, given as the fields of an instance: not yet checked, never refused. */
function handle_for(host, port, password) {
  if (last_handle !== null && host === last_host && port === last_port && password === last_password) {
    return last_handle;
  }
  const handle = find_or_make(host, port, password);
  last_host = host;
  last_port = port;
  last_password = password;
  last_handle = handle;
  return handle;
}

function find_or_make(host, port, password) {
  let key;
  try {
    key = JSON.stringify([host_from(host), port_from(port), password_from(password)]);
  } catch (_) {
    // Not an endpoint: quit() will say so. There is nothing to share.
    return new RedisHandle(disconnect_from(host, port, password));
  }
  let handle = handles.get(key);
  if (handle === undefined) {
    handle = new RedisHandle(disconnect_from(host, port, password));
    handles.set(key, handle);
  }
  return handle;
}

/** Whether `value` is a handle of ours, and not something that a caller put in its place. */
function is_handle(value) {
  return value instanceof RedisHandle;
}

module.exports = { handle_for, is_handle };
