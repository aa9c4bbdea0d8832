// Passwords over RESP2 and RESP3, also with servers without HELLO: which logins succeed, which are refused, and that no
// error quotes a password.
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { makeReservation, askError, keepLog } = require('./support/reservation');
const { startServer } = require('./support/server');

const secret = 'hunter2-the-secret';

const ways = {
  'RESP3 where the server has it': { options: {}, args: [] },
  'RESP2 alone': { options: { protocol: 2 }, args: [] },
  'a server that does not know HELLO': { options: {}, args: ['--rename-command', 'HELLO', ''] },
};

for (const [way, { options, args }] of Object.entries(ways)) {
  test(`${way}: a password is accepted where the server asks for none`, async (t) => {
    const server = await startServer(t, { args });
    assert.equal(await makeReservation(t, server, { password: secret, options }).lock('job'), true);
  });

  test(`${way}: a wrong password is refused with redis's message`, async (t) => {
    const server = await startServer(t, { args, password: 'another' });
    const error = await askError((done) =>
      makeReservation(t, server, { password: secret, options }).lock('job', done),
    );
    assert.equal(error.code, 'ERR_REDIS_AUTH');
    assert.match(error.message, /^Auth error: WRONGPASS .* \(user 'default' at 127\.0\.0\.1:\d+\)$/);
  });
}

test('an error does not repeat the password that a server quotes', async (t) => {
  const server = await startServer(t, { args: ['--rename-command', 'HELLO', ''] });
  const log = keepLog();
  const reservation = makeReservation(t, server, { password: secret, options: { protocol: 3 }, log });
  const error = await askError((done) => reservation.lock('job', done));
  assert.equal(error.code, 'ERR_REDIS_REPLY');
  assert.match(error.message, /was refused: ERR unknown command .?HELLO.?$/);
  assert.equal(log.of('reservation-failed').length, 1);
  const told = JSON.stringify([error.message, error.stack, error.cause.message, log.events]);
  assert.doesNotMatch(told, new RegExp(secret));
});
