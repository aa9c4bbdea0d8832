// A port where something other than redis listens: the error says in one sentence what answers there and quotes it, but never
// our own bytes, which may contain the password. Also servers that say nothing, hang up, or never stop sending.
'use strict';

const assert = require('node:assert/strict');
const { once } = require('node:events');
const net = require('node:net');
const { test } = require('node:test');
const util = require('node:util');
const { keepLog, makeReservation } = require('./support/reservation');
const { within } = require('./support/wait');

const SECRET = 'Zq7vXwK2mN9pRt4s';

/** Listens and does `act(socket)` for each connection; { host, port, connections() }. */
async function startStranger(t, act) {
  const sockets = new Set();
  const server = net.createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    act(socket);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return { host: '127.0.0.1', port: server.address().port };
}

/** The error of a first lock there. No part of it may contain the password. */
async function failureAt(t, stranger, { protocol, password = SECRET } = {}) {
  const log = keepLog();
  const options = { connect_timeout: 1000, command_timeout: 500, protocol };
  const reservation = makeReservation(t, stranger, { password, options, log });
  const error = await within(
    20000,
    reservation.lock('job').then(
      (had) => assert.fail(`it answered ${had}`),
      (reason) => reason,
    ),
  );
  const told = [
    util.inspect(error, { showHidden: true, depth: 9 }),
    JSON.stringify(error),
    JSON.stringify(log.events),
  ];
  // Neither the whole password nor its beginning nor its end.
  for (const text of told) for (const part of ['Zq7v', 'Rt4s']) assert.ok(!text.includes(part), text);
  assert.ok(!/[\r\n]/.test(error.message), `one line: ${error.message}`);
  return error;
}

function assertFailed(error, { host, port }, reason, detail) {
  assert.equal(error.code, 'ERR_REDIS_CONNECTION', error.message);
  assert.equal(error.cause.code, reason, error.message);
  const start = `Redis connection to ${host}:${port} failed - `;
  assert.ok(error.message.startsWith(start), error.message);
  if (typeof detail === 'string') assert.equal(error.message.slice(start.length), detail);
  else assert.match(error.message.slice(start.length), detail);
}

/** Sends `words` in reply to the first bytes. */
const answer = (words) => (socket) => socket.once('data', () => socket.write(words));

/** Sends `words` to each new connection, and `others` in reply to all bytes. */
const greet = (words, others) => (socket) => {
  socket.write(words);
  socket.on('data', () => socket.write(others));
};

const quoting = (line) =>
  `handshake: what answers there is no redis, it says ${JSON.stringify(line)}; is the port right?`;
const NOT_QUOTED = 'handshake: what answers there is no redis; is the port right?';

const strangers = [
  [
    'HTTP',
    answer('HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n'),
    quoting('HTTP/1.1 400 Bad Request'),
  ],
  ['SMTP', greet('220 mail ESMTP\r\n', '502 5.5.2 Error\r\n'), quoting('220 mail ESMTP')],
  ['memcached', answer('ERROR\r\nERROR\r\n'), quoting('ERROR')],
  ['POP3', greet('+OK POP3 ready\r\n', '-ERR unknown\r\n'), quoting('+OK POP3 ready')],
  ['SSH', greet('SSH-2.0-OpenSSH_9.2\r\n', ''), quoting('SSH-2.0-OpenSSH_9.2')],
  ['a long line', answer(`${'x'.repeat(500)}\n`), quoting(`${'x'.repeat(80)}…`)],
  ['a terminal’s codes', answer('\x1b[31mno\x07\r\n'), quoting('.[31mno.')],
  ['numbers', answer(':1\r\n:2\r\n:3\r\n'), quoting(':1')],
  ['bytes', answer(Buffer.from([0, 1, 2, 255, 254])), NOT_QUOTED],
  [
    'an echo',
    (socket) => socket.pipe(socket),
    /^handshake: what answers there is no redis, it sends back what it is sent/,
  ],
  [
    'an echo in a line',
    (socket) => socket.once('data', (data) => socket.write(`you: ${JSON.stringify(`${data}`)}`)),
    NOT_QUOTED,
  ],
  ['a password in a line', answer(`what is ${SECRET}?\r\n`), NOT_QUOTED],
  [
    'TLS',
    answer(Buffer.from([21, 3, 1, 0, 2, 2, 70])),
    /^handshake: the server answers in TLS; set options\.tls/,
  ],
];

for (const [what, act, detail] of strangers) {
  test(`described in one sentence: ${what}`, async (t) => {
    const stranger = await startStranger(t, act);
    for (const protocol of [undefined, 2]) {
      assertFailed(await failureAt(t, stranger, { protocol }), stranger, 'EPROTO', detail);
    }
  });
}

test('an echo server is described without the password', async (t) => {
  const stranger = await startStranger(t, (socket) => socket.pipe(socket));
  for (const protocol of [undefined, 2]) {
    const error = await failureAt(t, stranger, { protocol, password: '' });
    assertFailed(error, stranger, 'EPROTO', /it sends back what it is sent/);
  }
});

test('a refusal that quotes the password, whole or cut off, is shown without it', async (t) => {
  const words = (data) => `${data}`.replace(/\r\n/g, ' ');
  for (const quote of [
    (data) => words(data),
    (data) => words(data).slice(0, words(data).indexOf(SECRET) + 14),
    () => `'${SECRET}' is no command`,
    () => `'${[...SECRET].join('\\\\')}' is no command`,
  ]) {
    const stranger = await startStranger(t, (socket) => {
      socket.on(
        'data',
        (data) => `${data}`.includes(SECRET) && socket.end(`-ERR what is ${quote(data)}\r\n`),
      );
    });
    const error = await failureAt(t, stranger);
    assert.equal(error.code, 'ERR_REDIS_REPLY', error.message);
    assert.match(error.message, / was refused: .*\[hidden\]/);
  }
});

test('a server that accepts and says nothing, or only a part, is an error in time', async (t) => {
  for (const [act, words] of [
    [
      () => {},
      "the server takes the connection and says nothing; does it hang, or is the port somebody else's?",
    ],
    [answer('%7\r\n$6\r\nserv'), 'the server has answered in part, and then no more'],
    [answer(`-ERR no ${SECRET}\r\n`), 'the server has answered "ERR no [hidden]", and then no more'],
  ]) {
    const stranger = await startStranger(t, act);
    const detail = `no connection within 1000 ms (connect_timeout): handshake: ${words}`;
    assertFailed(await failureAt(t, stranger), stranger, 'ETIMEDOUT', detail);
  }
});

test('for a server that hangs up at once, the error suggests TLS, or a proxy such as twemproxy', async (t) => {
  for (const act of [
    (socket) => socket.end(),
    (socket) => socket.once('data', () => socket.end()),
    (socket) => socket.once('data', () => socket.resetAndDestroy()),
  ]) {
    const stranger = await startStranger(t, act);
    const detail =
      /^handshake: the server closed the connection; does it want TLS \(options\.tls\)\? A proxy .*\(twemproxy\)/;
    assertFailed(await failureAt(t, stranger), stranger, 'ECONNRESET', detail);
  }
  // A redis in trouble is neither.
  const cut = await startStranger(t, (socket) => socket.once('data', () => socket.end('%7\r\n$6\r\nserv')));
  assertFailed(
    await failureAt(t, cut),
    cut,
    'ECONNRESET',
    "handshake: the server's answer is cut off, or no answer of redis",
  );
});

test('an endless answer is cut off, and takes no memory', async (t) => {
  let sent = 0;
  const forever = (start, more) => (socket) => {
    const chunk = Buffer.from(more.repeat(Math.ceil(65536 / more.length)));
    const write = () => {
      do sent += chunk.length;
      while (!socket.destroyed && socket.write(chunk));
    };
    socket.write(start);
    socket.on('drain', write);
    write();
  };
  for (const [start, more, detail] of [
    ['', 'a', /no redis, it says "aaaa/],
    ['+OK', 'a', /no redis, it says "\+OKaaa/],
    ['%99999999\r\n', '$1\r\na\r\n', /^handshake: its answer does not end/],
  ]) {
    sent = 0;
    const stranger = await startStranger(t, forever(start, more));
    const error = await failureAt(t, stranger);
    assert.match(error.message.split(' failed - ')[1], detail);
    // At most what fits into the buffers of the sockets, for each attempt of the half second.
    assert.ok(sent < 500e6, `${sent} bytes`);
  }
});

test('a server without TLS that gets a TLS greeting is quoted', async (t) => {
  const stranger = await startStranger(t, answer('HTTP/1.1 400 Bad Request\r\n\r\n'));
  const options = { connect_timeout: 1000, tls: { rejectUnauthorized: false } };
  const error = await makeReservation(t, stranger, { options })
    .lock('job')
    .catch((reason) => reason);
  assertFailed(
    error,
    stranger,
    'ERR_SSL',
    'TLS: the server answers without it, "HTTP/1.1 400 Bad Request"; is this its TLS port?',
  );
  const mute = await startStranger(t, () => {});
  const silence = await makeReservation(t, mute, { options })
    .lock('job')
    .catch((reason) => reason);
  assertFailed(
    silence,
    mute,
    'ETIMEDOUT',
    /^no connection within 1000 ms \(connect_timeout\): TLS: .* says nothing; is this its TLS port\?$/,
  );
});
