// A turn of a wait: one call of an overridden lock(), from the outside in. Our own lock() asks here whether it is called in
// one, and what for; what it took in one that comes to nothing goes back.
'use strict';

const { AsyncLocalStorage } = require('async_hooks');
const { key_of } = require('../arguments/values');
const { ask } = require('./pending');
const { release } = require('./release');

// Whose turn it is in an async context. Made for the first of them: where there is one, node follows every promise.
let turns = null;

/** The turn in which our own lock() of an instance is called; null where nobody waits so. */
function turn_of(state) {
  const turn = turns === null ? undefined : turns.getStore();
  return turn === undefined || turn.is_over || turn.state !== state ? null : turn;
}

/** One call of the overridden lock. */
class Turn {
  constructor(wait, state, offer) {
    this.wait = wait;
    this.state = state;
    // What a native waiter has acquired for it: { name, made, handle, val }.
    this.offer = offer;
    // What our own lock() was asked for: name -> true, false, or undefined while there is no answer.
    this.asked = new Map();
    // From its answer on.
    this.is_over = false;
    // Whether something was offered that it did not ask for, or not at once.
    this.has_wasted = false;
  }

  /** The only name that it asked for, if there was but one; undefined otherwise. */
  get name() {
    return this.asked.size === 1 ? this.asked.keys().next().value : undefined;
  }

  /** What is offered to it, if that is what it asks for now, and still certain. */
  accept({ name, made }) {
    this.asked.set(name, undefined);
    const { offer } = this;
    if (offer === null || offer.name !== name || offer.made.native !== made.native) return null;
    if (!made.native.is_held(offer.handle)) return null;
    this.offer = null;
    return offer;
  }

  /** What our own lock() came to. */
  came_to(name, outcome) {
    this.asked.set(name, outcome);
    if (outcome && this.wait.answered) this.give_back(name);
  }

  /** The wait has ended in another way: nobody would know that it is held. */
  give_back_all() {
    for (const [name, outcome] of this.asked) if (outcome) this.give_back(name);
  }

  give_back(name) {
    if (relied_on.has(this.state.get(key_of(name, this.state.settings.key_prefix)))) return;
    // Its failure is told by a line, and the ttl frees the key.
    release(this.wait.instance, [name, () => {}]);
  }
}

// Leases that another wait of the same instance was answered with, for it held them already.
const relied_on = new WeakSet();

/** Calls `code` as a part of the turn: so is whatever it begins, also later. */
function run_in_turn(turn, code) {
  if (turns === null) turns = new AsyncLocalStorage();
  turns.run(turn, code);
}

/** What a native waiter acquired is not wanted. */
function give_back({ made, handle }) {
  // Whether it succeeds or not, there is nothing more to tell: where it does not, the ttl frees the key.
  const call = { done() {}, failed() {} };
  try {
    ask(call, (number) => made.native.release(handle, number));
  } catch (_) {
    // Likewise.
  }
}

module.exports = { Turn, give_back, relied_on, run_in_turn, turn_of };
