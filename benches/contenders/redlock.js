// redlock 5 beta (on ioredis, one server) as a contender. It waits by polling, every 100 to 300 ms by default.
'use strict';

const { connect } = require('./ioredis');

const id = 'redlock';

async function open({ host, port, ttl, heartbeat, poll }) {
  const { default: Redlock } = require('redlock');
  const client = await connect({ host, port });
  const often = poll === undefined ? {} : { retryDelay: poll, retryJitter: 0 };
  // Retries only for acquiring: a release that finds no lock would be retried for ever.
  const patience = { retryCount: -1, ...often };
  const redlock = new Redlock([client], often);
  return {
    make(resource, lost) {
      const keys = [`redlock-${resource}`];
      if (heartbeat !== undefined)
        return renewed(
          redlock,
          keys,
          ttl,
          { ...patience, automaticExtensionThreshold: ttl - heartbeat },
          lost,
        );
      let lock;
      const wait = async () => {
        lock = await redlock.acquire(keys, ttl, patience);
        return lock;
      };
      return { acquire: wait, wait, release: () => lock.release() };
    },
    close: async () => client.disconnect(),
  };
}

/** Only using() renews: the lock is held while the promise of its routine is pending. */
function renewed(redlock, keys, ttl, settings, lost) {
  let end;
  let ended;
  const wait = () =>
    new Promise((resolve, reject) => {
      const routine = (signal) =>
        new Promise((release) => {
          end = release;
          if (lost !== undefined) signal.addEventListener('abort', lost, { once: true });
          resolve(true);
        });
      ended = redlock.using(keys, ttl, settings, routine);
      ended.catch(reject);
    });
  return {
    acquire: wait,
    wait,
    release() {
      end();
      return ended;
    },
  };
}

module.exports = { id, label: 'redlock 5 beta', safe: true, waits: true, renews: true, open };
