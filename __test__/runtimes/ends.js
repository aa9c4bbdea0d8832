// Processes that are judged by how they end: each prints `ready` when it has done what it does.
'use strict';

const { host, port, make, ReserveResource } = require('./support');

const ends = {
  /** Holds a lock and has nothing else to do: ends by itself, at once, with 0. */
  async holding() {
    await make({ interval: 100 }).lock('ends-holding');
    console.log('ready');
  },

  /** Has never called anything: ends at once. */
  async idle() {
    make();
    console.log('ready');
  },

  /** Has nothing but a pending call: stays until it is answered. */
  async pending() {
    const other = make({ ttl: 1, interval: Infinity });
    await other.lock('ends-pending');
    const reservation = make();
    reservation.wait_until_lock('ends-pending', (error, key) => {
      if (error) throw error;
      console.log(key === 'reservation-ends-pending' ? 'ready' : key);
    });
  },

  /** Is lost without a listener: thrown as an uncaught exception, with the original's message. */
  async loss() {
    const reservation = make({ interval: 50 });
    await reservation.lock('ends-loss');
    setInterval(() => {}, 1000);
    const { connect } = require('./redis');
    await connect(host, port).command('SET', 'reservation-ends-loss', 'thief');
    console.log('ready');
  },

  /** process.exit() while calls are under way. */
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
