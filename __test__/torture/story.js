// Histories written by hand, for the tests of the checker: a method for each kind of record.
'use strict';

const TOKEN = '0'.repeat(32);

/** The value of the key that this call has set. */
function valueOf(op) {
  return `${op}-1-${TOKEN}`;
}

class Story {
  constructor() {
    this.events = [];
    this.add(0, 'redis', 'state', { key: 'k', value: null, left: -2, from: 0 });
  }

  /** The history, ordered by time. */
  get history() {
    return [...this.events].sort((one, other) => one.t - other.t);
  }

  add(t, w, e, fields) {
    this.events.push({ t, w, n: this.events.length, e, ...fields });
    return this;
  }

  /** An event that the process of `op` records (`a.1` is of `a`). */
  of(op, t, e, fields = {}) {
    return this.add(t, op.split('.')[0], e, { op, ...fields });
  }

  call(t, op, kind, fields = {}) {
    return this.of(op, t, 'call', { kind, key: 'k', ttl: 2000, renews: true, ...fields });
  }

  answer(t, op, fields) {
    return this.of(op, t, 'answer', fields);
  }

  fails(t, op, code = 'ERR_REDIS_TIMEOUT', more = {}) {
    return this.answer(t, op, { error: { code, message: code, ...more } });
  }

  /** Looks at `held`, at each of these times. */
  held(op, ...times) {
    for (const t of times) this.of(op, t, 'held', { held: true });
    return this;
  }

  notHeld(op, t) {
    return this.of(op, t, 'held', { held: false });
  }

  /** SET NX as redis sees it. */
  set(t, op, ttl = 2000) {
    return this.command(t, 'set', [valueOf(op), 'NX', 'PX', String(ttl)]);
  }

  command(t, command, args = [], fields = {}) {
    return this.add(t, 'redis', 'command', { key: 'k', command, args, inner: false, source: '', ...fields });
  }

  script(t, op, command, args = []) {
    this.add(t, 'redis', 'script', { key: 'k', value: valueOf(op), source: '' });
    return this.command(t, command, args, { inner: true });
  }

  renew(t, op, ttl = 2000) {
    return this.script(t, op, 'pexpire', [String(ttl)]);
  }

  /** lock() that succeeds: called, set 1 ms later, answered 1 ms later, then a look at `held`. */
  locks(t, op, { kind = 'lock', ...fields } = {}) {
    this.call(t, op, kind, fields).set(t + 1, op, fields.ttl);
    this.answer(t + 2, op, { value: kind === 'lock' ? true : 'reservation-k', val: valueOf(op) });
    return this.held(op, t + 3);
  }

  /** release() that succeeds, as the call `name`. */
  releases(t, name, op) {
    this.call(t, name, 'release', { key: null, asks: [op] }).script(t + 1, op, 'del');
    return this.answer(t + 2, name, { value: 1 });
  }

  told(t, op, by = 'event') {
    return this.of(op, t, 'told', { by, key: 'reservation-k', val: valueOf(op) });
  }

  theft(t, kind, key = 'k') {
    return this.add(t, 'chaos', 'theft', { kind, key, from: t - 1 });
  }

  /** A fault from `from` to `to`. */
  fault(from, to, name, scope, who = {}) {
    this.faults = (this.faults || 0) + 1;
    const fields = { id: this.faults, name, scope, ...who };
    this.add(from, 'chaos', 'fault', { ...fields, state: 'begins' });
    return this.add(to, 'chaos', 'fault', { ...fields, state: 'over', from });
  }

  section(
    op,
    name,
    { read, at, mode = 'plain', old = read, done = true, held = true, holder, wrote = at + 100 },
  ) {
    const fields = { section: name, key: 'k', mode };
    const next = `${Number.parseInt(read || '0', 10) + 1}:${name}`;
    this.of(op, at, 'read', { ...fields, read });
    this.of(op, wrote - 2, 'write', { ...fields, read, next });
    return this.of(op, wrote, 'written', { ...fields, read, next, old, done, held, holder });
  }

  exit(t, worker, code = 0, signal = null, stderr = '') {
    return this.add(t, 'chaos', 'exit', { worker, code, signal, stderr });
  }

  ends(t, left = []) {
    return this.add(t, 'chaos', 'final', { left });
  }
}

module.exports = { Story, valueOf };
