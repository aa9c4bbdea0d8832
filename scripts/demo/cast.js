// The demo's workers: real processes, and what each has reported so far.
'use strict';

const path = require('node:path');
const { startChild } = require('../../__test__/support/child');
const { within } = require('../../__test__/support/wait');

const events = ['wants the lock', 'lock true', 'lock false', 'job begins', 'job ends', 'released', 'lost'];

class Worker {
  constructor({ name, script, environment, onEvent }) {
    this.name = name;
    this.isCoffee = script.endsWith('.coffee');
    this.child = startChild(null, path.join(__dirname, script), { args: [name], env: environment });
    this.renewals = 0;
    this.losses = 0;
    this.told = new Map(); // event -> a promise of its details
    this.tell = new Map();
    for (const event of events) {
      this.told.set(event, new Promise((resolve) => this.tell.set(event, resolve)));
    }
    this.listen(onEvent);
  }

  get pid() {
    return this.child.pid;
  }

  listen(onEvent) {
    const hear = (event, details) => {
      if (!this.tell.has(event)) return;
      if (event === 'lost') this.losses += 1;
      onEvent(this, event, details);
      this.tell.get(event)(details);
    };
    this.child.process.on('message', ({ event, ...details }) => hear(event, details));
    // The old worker reports by console.log. So does the package, by default.
    this.child.lines.listen((line) => {
      if (line.includes('"reservation-extended"')) this.renewals += 1;
      else hear(line, {});
    });
  }

  /** Resolves with the details once the worker has reported this event. */
  said(event, timeout = 15000) {
    const ended = this.child.exited.then(({ code, signal }) => {
      throw new Error(`${this.name} ended (${signal || code}) and never said "${event}"`);
    });
    const first = Promise.race([this.told.get(event), ended]);
    return within(timeout, first, `"${event}" from ${this.name}`).catch((error) => {
      throw this.child.describe(error);
    });
  }
}

module.exports = { Worker };
