// The real lock without losses: an acquired lock counts as held until its release, and losses are not reported.
'use strict';

const ReserveResource = require('../../..');

class Stubborn extends ReserveResource {
  #held = new Set();

  constructor(...parameters) {
    super(...parameters);
    super.on('lost', () => {});
  }

  on(event, listener) {
    return event === 'lost' ? this : super.on(event, listener);
  }

  is_held(resource) {
    if (super.is_held(resource)) this.#held.add(resource);
    return this.#held.has(resource);
  }

  release(resource, ...rest) {
    if (typeof resource === 'string') this.#held.delete(resource);
    else this.#held.clear();
    return super.release(resource, ...rest);
  }
}

module.exports = Stubborn;
