// The private redis-server of a scenario, and its counters: how many commands it has run, and its CPU time.
'use strict';

const { startServer } = require('../../__test__/support/server');

class BenchServer {
  static async start() {
    const server = new BenchServer();
    server.inner = await startServer(null);
    server.client = server.inner.client();
    const [, version] = /^(?:redis|valkey)_version:(\S+)/m.exec(await server.client.info('server'));
    server.version = version;
    return server;
  }

  get host() {
    return this.inner.host;
  }

  get port() {
    return this.inner.port;
  }

  get pid() {
    return this.inner.pid;
  }

  /** Resets it to the state after a start: no keys, no scripts. */
  async clear() {
    await this.client.flushall();
    await this.client.script('FLUSH');
  }

  /** Runs `work`. Gives its value, the commands by name (also those inside scripts), and redis's CPU time in µs. */
  async watch(work) {
    const before = await this.books();
    const value = await work();
    const after = await this.books();
    const commands = {};
    let total = 0;
    for (const [name, calls] of Object.entries(after.commands)) {
      const more = calls - (before.commands[name] || 0);
      // The bench's own commands do not count.
      if (more <= 0 || name === 'info') continue;
      commands[name] = more;
      total += more;
    }
    return { value, commands, total, cpu: after.cpu - before.cpu };
  }

  async books() {
    const [cpu, commandstats] = await Promise.all([
      this.client.info('cpu'),
      this.client.info('commandstats'),
    ]);
    const seconds = (field) => Number(new RegExp(`^${field}:([\\d.]+)`, 'm').exec(cpu)[1]);
    const commands = {};
    for (const [, name, calls] of commandstats.matchAll(/^cmdstat_([^:]+):calls=(\d+)/gm)) {
      commands[name] = Number(calls);
    }
    return { commands, cpu: (seconds('used_cpu_user') + seconds('used_cpu_sys')) * 1e6 };
  }

  async stop() {
    await this.inner.stop();
  }
}

module.exports = { BenchServer };
