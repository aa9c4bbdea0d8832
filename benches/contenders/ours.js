// The package under test as a contender: its promises and its own heartbeat; one instance a resource, as 0.4.0 needs
// it, or one instance for all resources (`shared`), as it can.
'use strict';

const id = 'ours';

/** BENCH_PACKAGE is set by the bench: the folder of the copy that was built for it, or the one the caller named. */
function load() {
  return require(process.env.BENCH_PACKAGE || '../..');
}

async function open({ host, port, ttl, heartbeat, shared }) {
  const ReserveResource = load();
  const create = () => new ReserveResource('bench', host, port, heartbeat, ttl / 1000, false);
  const one = shared ? create() : null;
  return {
    make(resource) {
      const reservation = one || create();
      return {
        acquire: () => reservation.lock(resource),
        wait: () => reservation.wait_until_lock(resource),
        release: one ? () => reservation.release(resource) : () => reservation.release(),
      };
    },
    // Nothing that is held keeps the process alive.
    close: async () => {},
  };
}

module.exports = { id, label: 'redis-reservation', safe: true, waits: true, renews: true, load, open };
