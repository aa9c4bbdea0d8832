// Where a key is in a cluster: its slot, and the node of a slot by CLUSTER NODES.
'use strict';

const slotCount = 16384;

/** The slot of a key (a string or a Buffer), by the specification: CRC16 of the key, or of its {tag}. */
function slotOf(key) {
  const bytes = Buffer.from(key);
  const open = bytes.indexOf('{');
  const close = open < 0 ? -1 : bytes.indexOf('}', open + 1);
  const hashed = close > open + 1 ? bytes.subarray(open + 1, close) : bytes;
  return crc16(hashed) % slotCount;
}

/** CRC16/XMODEM, bit by bit: short, and fast enough here. */
function crc16(bytes) {
  let crc = 0;
  for (const byte of bytes) {
    crc ^= byte << 8;
    for (let bit = 0; bit < 8; bit += 1) crc = crc & 0x8000 ? ((crc << 1) ^ 0x1021) & 0xffff : crc << 1;
  }
  return crc;
}

/** The first `count` names, made by `name(number)`, whose slot `wanted` accepts. */
function namesInSlots(wanted, count = 1, name = (number) => `job-${number}`) {
  const found = [];
  for (let number = 0; found.length < count; number += 1) {
    if (number > 1e6) throw new Error('no such name among a million');
    if (wanted(slotOf(`reservation-${name(number)}`))) found.push(name(number));
  }
  return found;
}

/** All slots in so many ranges `{ first, last }` of about the same size. */
function evenRanges(count) {
  const start = (index) => Math.floor((index * slotCount) / count);
  return Array.from({ length: count }, (_, index) => ({ first: start(index), last: start(index + 1) - 1 }));
}

/** The lines of CLUSTER NODES: `{ id, port, flags, masterId, epoch, linked, ranges }`. */
function parseNodes(text) {
  return text
    .trim()
    .split('\n')
    .map((line) => {
      const [id, address, flags, masterId, , , epoch, link, ...slots] = line.split(' ');
      return {
        id,
        port: Number(/:(\d+)/.exec(address.replace(/\[.*?\]/, ''))[1]),
        flags: flags.split(','),
        masterId: masterId === '-' ? null : masterId,
        epoch: Number(epoch),
        linked: link === 'connected',
        // A slot in brackets is being moved, and still belongs to this node.
        ranges: slots.filter((slot) => !slot.startsWith('[')).map(parseRange),
      };
    });
}

function parseRange(text) {
  const [first, last = first] = text.split('-').map(Number);
  return { first, last };
}

const hasSlot = ({ ranges }, slot) => ranges.some(({ first, last }) => slot >= first && slot <= last);

module.exports = { slotOf, namesInSlots, evenRanges, parseNodes, hasSlot, slotCount };
