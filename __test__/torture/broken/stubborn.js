// The real lock, but for its bad news: what was had once counts as held until it is released, and losses are kept quiet.
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
