// Redis's side of a history as tenures: which value each key had from when to when, by the commands and times of redis. A pure
// function.
'use strict';

/** How close to the end of a key, in ms, a SET NX may or may not find it: redis counts whole milliseconds. */
const EDGE = 2;

/** Commands that a script runs only after it has found its value in the key. */
const onlyIfFound = ['set', 'pexpire', 'del'];

/** The ends of a tenure that its holder has not caused. */
const robberies = ['deleted', 'taken over', 'flushed', 'wiped'];

/**
 * `events`: those of redis, in redis's order. `acquired`: the values that callers have acquired, by their answers.
 *
 * Gives key -> `{ tenures, unsure }`. A tenure: `{ key, val, op, from, until, deadline, renewals, end, unsure }`, `op`
 * being the call whose value it is, `deadline` when it would lapse, `end` how it ended. `unsure`: spans without a record.
 */
function tenuresOf(events, acquired) {
  const proven = new Set([...acquired, ...valuesThatScriptsFound(events)]);
  const timelines = new Map();
  const timeline = (key) => {
    if (!timelines.has(key)) timelines.set(key, new Timeline(key, proven));
    return timelines.get(key);
  };
  let script = null;
  for (const event of events) {
    if (event.e === 'script') script = event;
    else if (event.e === 'state') timeline(event.key).see(event);
    else if (event.e === 'command' && event.key === null) {
      for (const one of timelines.values()) one.finish(event.t, 'flushed');
    } else if (event.e === 'command') timeline(event.key).apply(event, event.inner ? script.value : null);
  }
  for (const one of timelines.values()) one.close();
  return timelines;
}

/** A script goes on only if the key has the value in its argument. */
function valuesThatScriptsFound(events) {
  const found = [];
  let script = null;
  for (const event of events) {
    if (event.e === 'script') script = event;
    else if (script && isProof(event)) found.push(script.value);
  }
  return found;
}

function isProof({ e, inner, command }) {
  return e === 'command' && inner && onlyIfFound.includes(command);
}

class Timeline {
  constructor(key, proven) {
    this.key = key;
    this.proven = proven;
    this.tenures = [];
    this.unsure = [];
    this.current = null;
  }

  apply({ t, command, args, inner }, found) {
    if (inner && onlyIfFound.includes(command)) this.correct(t, found);
    if (command === 'set') this.set(t, args[0], ttlOf(args), args.some(isNX), inner);
    if (command === 'pexpire' || command === 'expire') {
      this.extend(t, Number(args[0]) * (command === 'expire' ? 1000 : 1));
    }
    if (command === 'del' || command === 'unlink') this.finish(t, inner ? 'freed' : 'deleted');
  }

  set(t, value, ttl, onlyIfFree, inner) {
    this.lapse(t - EDGE);
    const { current } = this;
    if (onlyIfFree && current) {
      if (current.deadline > t + EDGE) return;
      if (!this.proven.has(value)) {
        this.unsure.push([t, t + ttl]);
        return;
      }
      this.lapse(Infinity);
    }
    if (this.current) this.finish(t, inner ? 'handed over' : 'taken over');
    this.begin(t, value, t + ttl);
  }

  begin(t, val, deadline, unsure = false) {
    const op = /^(.+)-\d+-[0-9a-f]{32}$/.exec(val);
    this.current = {
      ...{ key: this.key, val, op: op ? op[1] : null, from: t, until: Infinity, deadline },
      ...{ renewals: [], end: 'open', unsure },
    };
    this.tenures.push(this.current);
  }

  extend(t, ttl) {
    if (!this.current) return;
    this.current.deadline = t + ttl;
    this.current.renewals.push(t);
  }

  /** A script has found `value` in the key, whatever the record says. */
  correct(t, value) {
    if (this.current && this.current.val === value) return;
    this.lapse(t);
    if (this.current) this.finish(t, 'wiped');
    if (!this.reopen(value)) this.begin(t, value, Infinity, true);
  }

  /** The value of the key after a time without MONITOR. */
  see({ t, from, value, left }) {
    this.lapse(t - EDGE);
    if (value === null) {
      if (this.current && this.current.deadline > t + EDGE) this.finish(from, 'wiped');
      return;
    }
    if (!this.current || this.current.val !== value) {
      if (this.current) this.finish(from, 'wiped');
      if (!this.reopen(value)) this.begin(from, value, Infinity, true);
    }
    this.current.deadline = left < 0 ? Infinity : t + left;
  }

  /** It has not lapsed: the line of the renewal was lost with the server. */
  reopen(value) {
    const last = this.tenures[this.tenures.length - 1];
    if (!last || last.val !== value || last.end !== 'lapsed') return false;
    last.until = Infinity;
    last.end = 'open';
    this.current = last;
    return true;
  }

  lapse(t) {
    if (this.current && this.current.deadline <= t) this.finish(this.current.deadline, 'lapsed');
  }

  finish(t, end) {
    if (end !== 'lapsed') this.lapse(t);
    if (!this.current) return;
    this.current.until = t;
    this.current.end = end;
    this.current = null;
  }

  close() {
    const { current } = this;
    if (current && current.deadline < Infinity) this.lapse(Infinity);
  }
}

function isNX(word) {
  return word.toUpperCase() === 'NX';
}

function ttlOf(args) {
  const place = args.findIndex((word) => /^[PE]X$/i.test(word));
  if (place < 0) return Infinity;
  return Number(args[place + 1]) * (args[place].toUpperCase() === 'EX' ? 1000 : 1);
}

module.exports = { tenuresOf, robberies };
