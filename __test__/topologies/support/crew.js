// A crew: one reservation for each of some resources, in this process or in a child, with a history of who believed to
// hold what from when to when, on a clock that all processes share.
'use strict';

const assert = require('node:assert/strict');
const path = require('node:path');
const { startChild } = require('../../support/child');
const { until } = require('../../support/wait');

/** Milliseconds on the system's monotonic clock, which is the same in all processes. */
const now = () => Number(process.hrtime.bigint()) / 1e6;

class Crew {
  /** `make(index)` makes the reservation for the resource of that index. */
  constructor(who, make, resources) {
    this.who = who;
    this.members = resources.map((resource, index) => {
      const member = { resource, reservation: make(index), tenures: [], losses: [] };
      member.reservation.on('lost', (error) => {
        this.end(member);
        member.losses.push({ at: now(), message: error.message });
      });
      return member;
    });
  }

  get resources() {
    return this.members.map(({ resource }) => resource);
  }

  get held() {
    return this.members.filter(({ resource, reservation }) => reservation.is_held(resource));
  }

  get losses() {
    return this.members.flatMap(({ losses }) => losses);
  }

  /** The values of the keys that they hold, in the order of the resources; null for what is not held. */
  get values() {
    return this.members.map(({ reservation }) => reservation._reserve_val || null);
  }

  /** Who held what when: `[{ who, resource, from, to }]`; what is still held goes on for ever. */
  get tenures() {
    return this.members.flatMap(({ resource, tenures }) =>
      tenures.map(({ from, to }) => ({ who: this.who, resource, from, to })),
    );
  }

  /** Locks all, which must be free. */
  async take() {
    await Promise.all(
      this.members.map(async (member) => {
        assert.equal(await member.reservation.lock(member.resource), true, `${member.resource} was free`);
        this.begin(member);
      }),
    );
  }

  /** Waits for all; `had(member)` is called for each that has come to hold. */
  async wait(had = () => {}, options = {}) {
    await Promise.all(
      this.members.map(async (member) => {
        await member.reservation.wait_until_lock(member.resource, options);
        this.begin(member);
        had(member);
      }),
    );
  }

  /** Releases all; resolves with how many were freed. */
  async release() {
    const freed = await Promise.all(
      this.members.map((member) => {
        this.end(member);
        return member.reservation.release(member.resource);
      }),
    );
    return freed.reduce((sum, one) => sum + one, 0);
  }

  begin({ resource, reservation, tenures }) {
    // A waiter that was told so, and whose lease was over before it could know, does not hold.
    if (reservation.is_held(resource)) tenures.push({ from: now(), to: null });
  }

  end({ tenures }) {
    const last = tenures.at(-1);
    if (last && last.to === null) last.to = now();
  }
}

/** Each two tenures of one resource that have an instant in common, as a line. */
function overlapsOf(tenures) {
  const lines = [];
  const end = ({ to }) => (to === null ? Infinity : to);
  const sorted = [...tenures].sort((one, other) => one.from - other.from);
  const latest = new Map(); // of each resource: the tenure that ends last of those that began before
  for (const tenure of sorted) {
    const former = latest.get(tenure.resource);
    if (former && end(former) > tenure.from) {
      lines.push(`${tenure.resource}: ${tenure.who} had it before ${former.who} knew that it was over`);
    }
    if (!former || end(former) < end(tenure)) latest.set(tenure.resource, tenure);
  }
  return lines;
}

/**
 * A crew of a child process. `access`: `{ password, options }`, as of accessTo. `settings`: `{ ttl, interval }`.
 */
async function startCrew(t, who, access, resources, settings) {
  const plan = JSON.stringify({ who, resources, ...access, ...settings });
  const child = startChild(t, path.join(__dirname, 'crew.child.js'), { env: { CREW: plan } });
  const crew = new RemoteCrew(child, resources);
  await child.message({ ready: true });
  return crew;
}

class RemoteCrew {
  constructor(child, resources) {
    this.child = child;
    this.resources = resources;
    this.had = new Map(); // resource -> { at, value }, since the last wait()
    child.messages.listen(({ had, ...rest }) => {
      if (had !== undefined) this.had.set(had, rest);
    });
  }

  /** Begins to wait for all. */
  wait() {
    this.had.clear();
    this.child.send('wait');
  }

  /** Resolves once all have what they waited for. */
  async allHad({ timeout = 20000 } = {}) {
    const missing = () => this.resources.length - this.had.size;
    await until(() => missing() === 0, { timeout, what: 'all that is waited for' }).catch((error) => {
      error.message += `; ${missing()} are missing`;
      throw this.child.describe(error);
    });
  }

  /** Releases all; resolves with `{ freed, losses, tenures }`: of this release, and of all the time before. */
  async release() {
    this.child.send('release');
    return this.child.message(({ freed }) => freed !== undefined, { timeout: 20000 });
  }
}

module.exports = { Crew, RemoteCrew, startCrew, overlapsOf, now };
