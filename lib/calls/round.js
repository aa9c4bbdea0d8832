// One round of a wait by calling: one call of the caller's lock(), and what the caller's lock() asked of ours meanwhile. Our
// lock() finds its round here, and whether a lock was already acquired for it. Locks of an abandoned round are released.
'use strict';

const { AsyncLocalStorage } = require('async_hooks');
const { key_of } = require('../arguments/values');
const { release } = require('./release');

// The round of each async context. Made for the first round, not before: with an AsyncLocalStorage, Node tracks every promise.
let rounds = null;

/** The round in which our own lock() is called, if it belongs to this instance; null otherwise. */
function round_of(state) {
  const round = rounds === null ? undefined : rounds.getStore();
  return round === undefined || round.is_over || round.state !== state ? null : round;
}

/** One call of the overridden lock. */
class Round {
  constructor(wait, state, offer) {
    this.wait = wait;
    this.state = state;
    // The lock that a native waiter acquired for this round: { name, made, handle, val }; null once taken.
    this.offer = offer;
    // What the caller's lock() asked ours for: name -> true, false, or undefined while there is no answer.
    this.asked = new Map();
    // True once the caller's lock() has answered.
    this.is_over = false;
    // Whether the offer was not taken: the caller's lock() asked for another name, or not before it returned.
    this.has_wasted = false;
  }

  /** The name that was asked for; undefined if there was none, or several. */
  get name() {
    return this.asked.size === 1 ? this.asked.keys().next().value : undefined;
  }

  /** Takes the offer, if it is of this name and still held; null otherwise. */
  accept({ name, made }) {
    this.asked.set(name, undefined);
    const { offer } = this;
    if (offer === null || offer.name !== name || offer.made.native !== made.native) return null;
    if (!made.native.is_held(offer.handle)) return null;
    this.offer = null;
    return offer;
  }

  /** Our own lock() has answered. */
  settled(name, outcome) {
    this.asked.set(name, outcome);
    if (outcome && this.wait.answered) this.give_back(name);
  }

  /** Releases the locks of this round: the wait has ended, so nobody else knows of them. */
  release_all() {
    for (const [name, outcome] of this.asked) if (outcome) this.give_back(name);
  }

  give_back(name) {
    if (shared_leases.has(this.state.get(key_of(name, this.state.settings.key_prefix)))) return;
    // If that fails, a log line says so, and the ttl frees the key.
    release(this.wait.instance, [name, () => {}]);
  }
}

// Leases that also answered another wait of the same instance. They are not released with the round that acquired them.
const shared_leases = new WeakSet();

/** Runs `code` in the round's async context: everything that it starts, now or later, belongs to the round. */
function run_in_round(round, code) {
  if (rounds === null) rounds = new AsyncLocalStorage();
  rounds.run(round, code);
}

module.exports = { Round, shared_leases, run_in_round, round_of };
