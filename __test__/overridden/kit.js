// The ways in which callers override lock(). Each puts a namespace before the resource.
'use strict';

const { setTimeout: sleep } = require('node:timers/promises');
const util = require('node:util');
const { commandCalls } = require('../support/commands');
const { ReserveResource, makeReservation } = require('../support/reservation');
const { until } = require('../support/wait');

const key = 'reservation-prod-job';
const { lock: ours } = ReserveResource.prototype;

/** Each makes a reservation whose lock() puts a namespace before the resource. */
const ways = {
  'a subclass'(t, server, settings) {
    class Own extends ReserveResource {
      lock(resource, callback) {
        return super.lock(`prod-${resource}`, callback);
      }
    }
    return makeReservation(t, server, { ...settings, Class: Own });
  },
  'an instance'(t, server, settings) {
    const reservation = makeReservation(t, server, settings);
    const { lock } = reservation;
    reservation.lock = (resource, callback) => lock.call(reservation, `prod-${resource}`, callback);
    return reservation;
  },
  'a bound method'(t, server, settings) {
    const reservation = ways['a subclass'](t, server, settings);
    reservation.lock = reservation.lock.bind(reservation);
    return reservation;
  },
  'util.inherits'(t, server, settings) {
    function Own(...args) {
      ReserveResource.apply(this, args);
    }
    util.inherits(Own, ReserveResource);
    Own.prototype.lock = function lock(resource, callback) {
      Own.super_.prototype.lock.call(this, `prod-${resource}`, (err, status) => callback(err, status));
    };
    return makeReservation(t, server, { ...settings, Class: Own });
  },
  'a mixin'(t, server, settings) {
    const Namespaced = (Base) =>
      class extends Base {
        lock = (resource, callback) => super.lock(`prod-${resource}`, callback);
      };
    return makeReservation(t, server, { ...settings, Class: Namespaced(ReserveResource) });
  },
  'an async method that passes the callback on'(t, server, settings) {
    class Own extends ReserveResource {
      async lock(resource, callback) {
        super.lock(`prod-${resource}`, callback);
      }
    }
    return makeReservation(t, server, { ...settings, Class: Own });
  },
  'an async method that returns the answer'(t, server, settings) {
    class Own extends ReserveResource {
      async lock(resource) {
        return super.lock(`prod-${resource}`);
      }
    }
    return makeReservation(t, server, { ...settings, Class: Own });
  },
  'an async method that does something before'(t, server, settings) {
    class Own extends ReserveResource {
      async lock(resource, callback) {
        await sleep(5);
        super.lock(`prod-${resource}`, callback);
      }
    }
    return makeReservation(t, server, { ...settings, Class: Own });
  },
  'a method that leaves the status out'(t, server, settings) {
    class Own extends ReserveResource {
      lock(resource, callback) {
        super.lock(`prod-${resource}`, (err) => callback(err));
      }
    }
    return makeReservation(t, server, { ...settings, Class: Own });
  },
  'a method that calls back twice'(t, server, settings) {
    class Own extends ReserveResource {
      lock(resource, callback) {
        super.lock(`prod-${resource}`, (...answer) => {
          callback(...answer);
          callback(null, !answer[1]);
        });
      }
    }
    return makeReservation(t, server, { ...settings, Class: Own });
  },
  'a Proxy'(t, server, settings) {
    return new Proxy(ways['a subclass'](t, server, settings), {});
  },
};

/** Resolves once the server has run so many more SETs. */
async function tried(client, tries = 1) {
  const before = (await commandCalls(client)).set || 0;
  await until(async () => ((await commandCalls(client)).set || 0) >= before + tries, { what: 'a try' });
}

module.exports = { key, ours, tried, ways };
