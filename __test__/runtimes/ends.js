// Processes whose end is the check. Each prints `ready` when it has done its work.
'use strict';

const { host, port, make, ReserveResource } = require('./support');

const ends = {
  /** Holds a lock and is idle: ends by itself at once, with code 0. */
  async holding() {
    await make({ interval: 100 }).lock('ends-holding');
    console.log('ready');
  },

  /** Has made no call: ends at once. */
  async idle() {
    make();
    console.log('ready');
  },

  /** Has a pending call: stays alive until it is answered. */
  async pending() {
    const other = make({ ttl: 1, interval: Infinity });
    await other.lock('ends-pending');
    const reservation = make();
    reservation.wait_until_lock('ends-pending', (error, key) => {
      if (error) throw error;
      console.log(key === 'reservation-ends-pending' ? 'ready' : key);
    });
  },

  /** A loss without a listener: an uncaught exception with the message of 0.4.0. */
  async loss() {
    const reservation = make({ interval: 50 });
    await reservation.lock('ends-loss');
    setInterval(() => {}, 1000);
    const { connect } = require('./redis');
    await connect(host, port).command('SET', 'reservation-ends-loss', 'thief');
    console.log('ready');
  },

  /** process.exit() while calls are pending. */
  async exit() {
    const reservation = make();
    await reservation.lock('ends-exit');
    for (let index = 0; index < 100; index += 1) make().lock(`ends-exit-${index}`, () => {});
    new ReserveResource('probe', host, port, 0, 10, false).wait_until_lock('ends-exit', () => {});
    console.log('ready');
    process.exit(0);
  },
};

module.exports = ends;
