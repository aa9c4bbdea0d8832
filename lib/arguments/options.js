// The constructor's options, one at a time: which values each takes, and what they become. Which options exclude each other
// is decided in location.js.
'use strict';

const {
  WITH_FIELDS,
  as_utf8,
  milliseconds_from,
  number_from,
  object_from,
  password_from,
  port_from,
  wrong_type,
  wrong_value,
} = require('./values');
const { describe } = require('../errors');
const { member_of, refuse_unknown } = require('./names');
const { tls_from } = require('./tls');

const DEFAULT_CLIENT_NAME = 'redis-reservation';
const MEMBER_OPTIONS = ['host', 'port'];

// The largest C int: redis keeps these numbers in one.
const MOST = Math.pow(2, 31) - 1;

// Each check gets a value and the name for it in messages, and returns the checked value.
const CHECKS = {
  connect_timeout: (value, field) => milliseconds_from(field, value, 1),
  command_timeout: (value, field) => milliseconds_from(field, value, 1),
  max_hold: (value, field) => milliseconds_from(field, value, 1),
  username: user_from,
  db: whole_number_from,
  tls: tls_from,
  sentinels: (value, field) => members_from(value, field, 26379),
  name: name_from,
  sentinelUsername: user_from,
  sentinelPassword: password_from,
  cluster: (value, field) => members_from(value, field, 6379),
  client_name: client_name_from,
  protocol: protocol_from,
  key_prefix: (value, field) => as_utf8(text_from(value, field)),
  min_replicas: whole_number_from,
};

const CONSTRUCTOR_OPTIONS = Object.keys(CHECKS);

/** The constructor's options, checked. Null and undefined count as not given. */
function options_from(options) {
  // Without a prototype, so that a polluted Object.prototype adds no option.
  const checked = Object.create(null);
  if (options == null) return checked;
  object_from(options, 'the constructor');
  const known = options[WITH_FIELDS] ? options[WITH_FIELDS].concat(CONSTRUCTOR_OPTIONS) : CONSTRUCTOR_OPTIONS;
  refuse_unknown(options, known, 'the constructor');
  for (const name of CONSTRUCTOR_OPTIONS) {
    const value = option_from(name, member_of(options, name), name);
    if (value !== undefined) checked[name] = value;
  }
  return checked;
}

/** One option, checked; undefined where it is not given. Messages call it `field`. */
function option_from(name, value, field) {
  return value == null ? undefined : CHECKS[name](value, field);
}

function text_from(value, field) {
  if (typeof value === 'string') return value;
  throw wrong_type(`${field} must be a string; it is ${describe(value)}. Leave it out for the default.`);
}

/** An empty string, as an empty environment variable gives, means no user. */
function user_from(value, field) {
  return text_from(value, field) || undefined;
}

function whole_number_from(value, field) {
  const number = number_from(value);
  if (Number.isInteger(number) && number >= 0 && number <= MOST) return number;
  throw wrong_value(
    `${field} must be a whole number from 0 to ${MOST}; it is ${describe(value)}. Leave it out for 0.`,
  );
}

function protocol_from(value, field) {
  const protocol = number_from(value);
  if (protocol === 2 || protocol === 3) return protocol;
  throw wrong_value(
    `${field} must be 2 or 3; it is ${describe(value)}. Leave it out for 3 where the server has it.`,
  );
}

function name_from(value, field) {
  const name = text_from(value, field);
  if (name !== '') return name;
  throw wrong_value(
    `${field} must be the name under which the sentinels watch the master, such as mymaster; it is "".`,
  );
}

/** Redis takes visible ASCII characters only, since programs parse its CLIENT LIST. */
function client_name_from(value, field) {
  const name = text_from(value, field);
  if (/^[!-~]+$/.test(name)) return name;
  throw wrong_value(
    `${field} must be of visible ASCII characters, without spaces and newlines; it is ${describe(value)}. ` +
      `Leave it out for ${DEFAULT_CLIENT_NAME}.`,
  );
}

/** `sentinels` or `cluster` as [{ host, port }], with the default port filled in. */
function members_from(value, field, port) {
  const shape = `Pass [{ host: 'redis-1.example.com', port: ${port} }, …].`;
  if (!Array.isArray(value)) {
    const kind = typeof value === 'string' ? 'a string' : describe(value);
    throw wrong_type(`${field} must be an array of { host, port }; it is ${kind}. ${shape}`);
  }
  if (value.length === 0) {
    throw wrong_value(`${field} must name at least one server; it is an empty array. ${shape}`);
  }
  return Array.from(value, (member, index) => {
    const place = `${field}[${index}]`;
    if (typeof member !== 'object' || member === null || Array.isArray(member)) {
      const kind = typeof member === 'string' ? 'a string' : describe(member);
      throw wrong_type(`${place} must be an object { host, port }; it is ${kind}. ${shape}`);
    }
    refuse_unknown(member, MEMBER_OPTIONS, place);
    const host = member_of(member, 'host');
    if (typeof host !== 'string' || host === '') {
      throw wrong_type(`${place}.host must be a name or an address; it is ${describe(host)}. ${shape}`);
    }
    return {
      host: address_from(host, `${place}.host`),
      port: port_from(member_of(member, 'port'), `${place}.port`, port) || port,
    };
  });
}

/** A host name or an address, without brackets. The value is not shown: it may be half a URL, with a password in it. */
function address_from(value, field) {
  if (typeof value !== 'string') {
    throw wrong_type(`${field} must be a string; it is ${describe(value)}. Leave it out for 127.0.0.1.`);
  }
  const bracketed = value.startsWith('[') && value.endsWith(']');
  const address = bracketed ? value.slice(1, -1) : value;
  if (bracketed || address.includes(':')) {
    // Loaded only here, since most hosts are names.
    if (require('net').isIPv6(address)) return address;
    throw wrong_value(
      `${field} must be a name or an address alone, such as redis.example.com or ::1; it is a string of ` +
        `${value.length} characters with a colon or brackets that is no IPv6 address. Pass the port as port.`,
    );
  }
  if (address !== '' && !/[\s\p{Cc}/\\?#@%<>^|,;=]/u.test(address)) return address;
  throw wrong_value(
    `${field} must be a name or an address such as redis.example.com; it is a string of ${value.length} ` +
      'characters, some of which are in no name. Pass the user, the password and the port as username, password and port.',
  );
}

module.exports = {
  CONSTRUCTOR_OPTIONS,
  DEFAULT_CLIENT_NAME,
  address_from,
  option_from,
  options_from,
};
