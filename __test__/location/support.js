// A refused location gives one clear error, the same from location.js and from every call. Nothing is sent, and the error has
// no secret. A listening socket takes the place of redis, and counts the connections.
'use strict';

const assert = require('node:assert/strict');
const { once } = require('node:events');
const net = require('node:net');
const { after, before, test } = require('node:test');
const util = require('node:util');
const ReserveResource = require('../../index.js');
const { location_from } = require('../../lib/arguments/location');

const TYPE = 'ERR_INVALID_ARG_TYPE';
const VALUE = 'ERR_INVALID_ARG_VALUE';
// Neither this nor its beginning is part of any message.
const SECRET = 'Zq7vXw';

let connections = 0;
let server;

before(async () => {
  server = net.createServer((socket) => {
    connections += 1;
    socket.destroy();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
});

after(() => {
  server.close();
  assert.equal(connections, 0, 'something was sent');
});

/** One test for each of `refusals`: [what, [host, port, password, options], code, the message or parts of it]. */
function checkRefusals(refusals) {
  for (const [what, given, code, message] of refusals) {
    test(`refused: ${what}`, async () => {
      const error = refusalOf(given);
      assert.equal(error.code, code, error.message);
      assert.match(error.message, message);

      // The same through the class, asynchronously, and in the log line.
      const [host, port, password, options] = given;
      const lines = [];
      const reservation = new ReserveResource(
        'me',
        host,
        port,
        0,
        2,
        (line) => lines.push(line),
        password,
        options,
      );
      const answers = await new Promise((resolve) => reservation.lock('job', (...args) => resolve(args)));
      assert.deepEqual(
        answers.map((one) => [one.name, one.code, one.message]),
        [['InvalidArgumentError', code, error.message]],
      );
      await assert.rejects(reservation.wait_until_lock('job'), { code, message: error.message });
      // The handle depends only on the connection, whatever else is wrong with the instance.
      const closed = await reservation
        ._init_redis()
        .quit()
        .catch((reason) => reason);
      assert.ok(closed === 'OK' || closed.message === error.message, `${closed}`);
      for (const { message: text, stack, cause } of [error, answers[0]]) {
        // The stack begins with the message. The lines below it only name files.
        assertNoSecret(text, stack, util.inspect(cause));
      }
      assertNoSecret(...lines);
      assert.ok(lines.length > 0);
    });
  }
}

function refusalOf(given) {
  try {
    location_from(...given);
  } catch (error) {
    return error;
  }
  return assert.fail('it was accepted');
}

function assertNoSecret(...texts) {
  for (const text of texts) {
    for (const form of [SECRET, SECRET.slice(0, 3)]) assert.ok(!text.includes(form), text);
  }
}

module.exports = { SECRET, TYPE, VALUE, checkRefusals };
