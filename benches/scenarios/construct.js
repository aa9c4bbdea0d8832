// Scenario: ten million reservations in one synchronous loop, each with _init_redis(), as in the tests of 0.4.0.
'use strict';

const MILLIONS = 10;
// 0.4.0 makes a logger for each: it makes fewer, and the time is extrapolated.
const share = { original: 0.05 };

/** The least work of a constructor that stores these fields and reads this variable. */
function Bare(by, host, port, heartbeatInterval, lockTtl, log, password) {
  this.by = by;
  this.host = host;
  this.port = port;
  this.heartbeat_interval = heartbeatInterval;
  this.lock_ttl = lockTtl;
  this.metadata = log == null ? {} : log;
  this.password = password == null ? '' : password;
  this._lost_reservation = false;
  this.identifier = process.env.JOB_ID || process.pid;
}

function loopOfBare(count, host, port) {
  let last;
  for (let index = 0; index < count; index += 1) last = new Bare('worker', host, port, 10000, 30);
  return last;
}

function loopOf(ReserveResource, count, host, port) {
  let last;
  for (let index = 0; index < count; index += 1) {
    last = new ReserveResource('worker', host, port, 10000, 30);
    last._init_redis();
  }
  return last;
}

async function round({ entry, start }) {
  const worker = await start();
  const count = MILLIONS * 1e6 * (share[entry.key] || 1);
  const { ms } = await worker.call('construct', entry.key, count);
  return { seconds: ((ms / count) * MILLIONS * 1e6) / 1000, each: (ms / count) * 1e6, peak: worker.peak };
}

const worker = {
  async construct({ contender, settings, measure }, key, count) {
    const { host, port } = settings;
    // In separate functions: otherwise the compiler would see two shapes in one loop.
    const loop =
      key === 'bare'
        ? () => loopOfBare(count, host, port)
        : (
            (ReserveResource) => () =>
              loopOf(ReserveResource, count, host, port)
          )(contender.load());
    const { ms } = await measure(loop);
    return { ms };
  },
};

module.exports = {
  title: `${MILLIONS} million constructions with _init_redis(), one synchronous loop`,
  rounds: 3,
  entries: ['ours', { id: 'ours', key: 'bare', label: 'a bare function with the same fields' }, 'original'],
  measures: [
    { key: 'seconds', label: 'time', unit: 's', best: 'low' },
    { key: 'each', label: 'each', unit: 'ns', best: 'low' },
    { key: 'peak', label: 'peak', unit: 'RSS, MB', best: 'low' },
  ],
  aims: [
    {
      text: 'time, × the bare function (≤ 1.5)',
      value: ({ times }) => times('ours', 'bare', 'seconds'),
      atMost: 1.5,
    },
    { text: 'peak memory, MB (< 120)', value: ({ figure }) => figure('ours', 'peak'), atMost: 120 },
  ],
  round,
  worker,
};
