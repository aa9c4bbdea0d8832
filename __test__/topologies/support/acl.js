// Users on a running server, with rules of the test.
'use strict';

const crypto = require('node:crypto');

/** The rules of a user by default. */
const everything = ['~*', '&*', '+@all'];

/**
 * Makes (or remakes) a user on a server, or on each of several, and resolves with `{ username, password }`.
 * `rules`: as in ACL SETUSER, e.g. `['~reservation-*', '+@all', '-@dangerous']`; all rights if not given.
 */
async function addUser(
  target,
  { username = 'worker', password = randomPassword(), rules = everything } = {},
) {
  const command = ['ACL', 'SETUSER', username, 'reset', 'on', `>${password}`, ...rules];
  await onEach(target, command);
  return { username, password };
}

/** Adds rules to a user: `changeUser(server, 'worker', '-set')`. They apply to open connections at once. */
async function changeUser(target, username, ...rules) {
  await onEach(target, ['ACL', 'SETUSER', username, ...rules]);
}

/** Removes a user. Redis then closes its connections. */
async function removeUser(target, username) {
  await onEach(target, ['ACL', 'DELUSER', username]);
}

/** The commands that the server has refused to a user so far, by name, in the order of ACL LOG. */
async function refused(server, username) {
  const entries = await server.command('ACL', 'LOG', '1000');
  return entries
    .map((entry) => (Array.isArray(entry) ? pairs(entry) : entry))
    .filter((entry) => entry.username === username)
    .map((entry) => entry.object.toLowerCase());
}

function pairs(list) {
  return Object.fromEntries(
    list.flatMap((name, index) => (index % 2 === 0 ? [[name, list[index + 1]]] : [])),
  );
}

async function onEach(target, command) {
  await Promise.all([target].flat().map((server) => server.command(...command)));
}

/** With characters that URLs and configuration files must escape. */
function randomPassword() {
  return `${crypto.randomBytes(12).toString('hex')}:@/%?`;
}

module.exports = { addUser, changeUser, removeUser, refused, randomPassword };
