// redis-reservation 0.4.0 as a contender: an instance for each resource, promises around its callbacks, without a log.
'use strict';

const id = 'original';

function load() {
  return require('original');
}

async function open({ host, port, ttl, heartbeat }) {
  // It writes one or more lines a call to stderr, which are not measured.
  process.env.KAYVEE_LOG_LEVEL = 'critical';
  const ReserveResource = load();
  return {
    make(resource, lost) {
      // A loss is an uncaught exception, which does not say whose.
      if (lost !== undefined) process.once('uncaughtException', lost);
      // Without an interval it would renew each millisecond.
      const interval = heartbeat ?? ttl / 3;
      const reservation = new ReserveResource('bench', host, port, interval, Math.ceil(ttl / 1000));
      return {
        acquire: () => promise((callback) => reservation.lock(resource, callback)),
        wait: () => promise((callback) => reservation.wait_until_lock(resource, callback)),
        release: () => promise((callback) => reservation.release(callback)),
      };
    },
    close: async () => {},
  };
}

function promise(start) {
  return new Promise((resolve, reject) => {
    start((error, value) => (error ? reject(error) : resolve(value)));
  });
}

// Its release deletes any value of the key, also that of another holder.
module.exports = { id, label: '0.4.0', safe: false, waits: true, renews: true, load, open };
