// redis-reservation 0.4.0 as a contender: an instance a resource, callbacks turned into promises, its log silenced.
'use strict';

const id = 'original';

function load() {
  return require('original');
}

async function open({ host, port, ttl, heartbeat }) {
  // Its lines go to stderr, one or more a call; they are not what is measured.
  process.env.KAYVEE_LOG_LEVEL = 'critical';
  const ReserveResource = load();
  return {
    make(resource) {
      // Without an interval of its own it would renew each millisecond.
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

// Its release deletes whatever the key holds, a thief's lock too.
module.exports = { id, label: '0.4.0', safe: false, waits: true, renews: true, load, open };
