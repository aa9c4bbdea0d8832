// A minimal redis client for the probe, in syntax that the oldest runtimes parse. Sends one command after another.
'use strict';

const net = require('net');

function connect(host, port) {
  const socket = net.connect(port, host);
  const waiting = [];
  let text = '';
  socket.setEncoding('utf8');
  socket.on('data', (data) => {
    text += data;
    for (;;) {
      const reply = parse(text);
      if (reply === null) return;
      text = text.slice(reply.length);
      waiting.shift().resolve(reply.value);
    }
  });
  socket.on('error', (error) => waiting.splice(0).forEach(({ reject }) => reject(error)));
  // An idle client does not keep its process alive.
  socket.unref();

  function command(...words) {
    socket.ref();
    const answer = new Promise((resolve, reject) => waiting.push({ resolve, reject }));
    const parts = words.map((word) => `$${Buffer.byteLength(String(word))}\r\n${word}\r\n`);
    socket.write(`*${words.length}\r\n${parts.join('')}`);
    return answer.then((value) => {
      if (waiting.length === 0) socket.unref();
      return value;
    });
  }
  return { command };
}

/** The first whole reply of a text, or null. Bulk strings here are ASCII, so characters are bytes. */
function parse(text) {
  const end = text.indexOf('\r\n');
  if (end < 0) return null;
  const line = text.slice(1, end);
  const length = end + 2;
  if (text[0] === ':') return { value: Number(line), length };
  if (text[0] !== '$') return { value: line, length };
  if (line === '-1') return { value: null, length };
  const size = Number(line);
  return text.length < length + size + 2
    ? null
    : { value: text.slice(length, length + size), length: length + size + 2 };
}

module.exports = { connect };
