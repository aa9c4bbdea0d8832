// Where a key lives in a cluster: its slot, and what CLUSTER NODES says of who has which.
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

/** CRC16/XMODEM, bit by bit: short, and nobody here is in a hurry. */
function crc16(bytes) {
  let crc = 0;
  for (const byte of bytes) {
    crc ^= byte << 8;
    for (let bit = 0; bit < 8; bit += 1) crc = crc & 0x8000 ? ((crc << 1) ^ 0x1021) & 0xffff : crc << 1;
  }
  return crc;
}

/** The first `count` names, made by `name(number)`, whose key lives in a slot that `wanted` says yes to. */
function namesInSlots(wanted, count = 1, name = (number) => `job-${number}`) {
  const found = [];
  for (let number = 0; found.length < count; number += 1) {
    if (number > 1e6) throw new Error('no such name among a million');
    if (wanted(slotOf(`reservation-${name(number)}`))) found.push(name(number));
  }
  return found;
}

/** So many ranges `{ first, last }` of about the same size that are all slots together. */
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
        // What stands in brackets is on its way, and still here until it is not.
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
