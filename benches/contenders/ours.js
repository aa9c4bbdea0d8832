// The package under test as a contender: promises and its own heartbeat; one instance for each resource, as 0.4.0 requires, or
// one instance for all (`shared`).
'use strict';

const id = 'ours';

/** The bench sets BENCH_PACKAGE: the folder of the copy that it has built, or the one that the caller named. */
function load() {
  return require(process.env.BENCH_PACKAGE || '../..');
}

async function open({ host, port, ttl, heartbeat, shared }) {
  const ReserveResource = load();
  const create = () => new ReserveResource('bench', host, port, heartbeat, ttl / 1000, false);
  const one = shared ? create() : null;
  return {
    make(resource, lost) {
      const reservation = one || create();
      if (lost !== undefined) reservation.on('lost', lost);
      return {
        is_held: () => reservation.is_held(resource),
        acquire: () => reservation.lock(resource),
        wait: () => reservation.wait_until_lock(resource),
        release: one ? () => reservation.release(resource) : () => reservation.release(),
      };
    },
    // A held lock does not keep the process alive.
    close: async () => {},
  };
}

module.exports = { id, label: 'redis-reservation', safe: true, waits: true, renews: true, load, open };
