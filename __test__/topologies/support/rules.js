// The ACL rules that a user of this package needs, and the servers on which the tests of users run.
'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { servers } = require('../../../scripts/servers/list');
const { cache, root } = require('../../../scripts/setup/run');
const { findProgram } = require('../../../scripts/setup/wheel');
const { addUser } = require('./acl');

/** Without any one of these, some call ends with ERR_REDIS_AUTH. */
const needed = ['~reservation-*', '-@all', '+set', '+get', '+del', '+pexpire', '+pttl', '+evalsha'];

/** One of these two loads the scripts. With both, a SCRIPT FLUSH costs nothing. */
const scripts = ['+eval', '+script|load'];

/** These are optional. Without each, something takes longer. */
const improving = [
  '+getex',
  '+client|tracking',
  '+client|caching',
  '+client|info',
  '+client|kill',
  '+client|setname',
];

/** For the options `db` and `min_replicas`. */
const optional = { db: '+select', min_replicas: '+wait' };

/** Redis before 7.2 does not have it, and 7.0 rejects the rule. */
const setinfo = '+client|setinfo';

/** All rules: the line of docs/connecting.md, and those for options. */
const rules = [...needed, ...scripts, ...improving, ...Object.values(optional)];

/** Adds a user with rules, and with CLIENT SETINFO where the server has it. Gives `{ username, password }`. */
async function addWorker(server, { username = 'worker', without = [], ...settings } = {}) {
  const given = (settings.rules || rules).filter((rule) => !without.includes(rule));
  const user = await addUser(server, { ...settings, username, rules: given });
  if (!without.includes(setinfo)) await server.command('ACL', 'SETUSER', username, setinfo).catch(() => {});
  return user;
}

/** The rules of the ACL SETUSER line in docs/connecting.md, as words without the name and the password. */
function documentedRules(username) {
  const page = fs.readFileSync(path.join(root, 'docs', 'connecting.md'), 'utf8');
  const [, words] = new RegExp(`^ACL SETUSER ${username} on >secret (.*)$`, 'm').exec(page);
  return words.split(' ');
}

/** The servers with different messages: the name for startNode, and the reason to skip it where it was not downloaded. */
const everyServer = servers.map(({ name, wheel, program }) => ({
  server: wheel && name,
  title: wheel ? name : 'the server of all tests',
  skip:
    wheel && !findProgram(program, path.join(cache, 'servers', name)) && '`npm run test:servers` fetches it',
}));

module.exports = { needed, scripts, optional, setinfo, rules, addWorker, documentedRules, everyServer };
