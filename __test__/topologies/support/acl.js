// Users on a running server, with the rules that a test chooses.
'use strict';

const crypto = require('node:crypto');

/** What a user may do that no rules are given for. */
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

/** More rules for a user that is there: `changeUser(server, 'worker', '-set')`. Open connections feel them at once. */
async function changeUser(target, username, ...rules) {
  await onEach(target, ['ACL', 'SETUSER', username, ...rules]);
}

/** Removes a user; redis then ends its connections. */
async function removeUser(target, username) {
  await onEach(target, ['ACL', 'DELUSER', username]);
}

/** What the server has refused to a user so far: the names of the commands, in the order in which it lists them. */
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

/** With what URLs and configuration files would have to escape. */
function randomPassword() {
  return `${crypto.randomBytes(12).toString('hex')}:@/%?`;
}

module.exports = { addUser, changeUser, removeUser, refused, randomPassword };
