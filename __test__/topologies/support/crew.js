// A crew: one reservation for each of some resources, in this process or in a child, with a history of what each counted as
// held and when, on a clock that all processes share.
'use strict';

const assert = require('node:assert/strict');
const path = require('node:path');
const { startChild } = require('../../support/child');
const { until } = require('../../support/wait');

/** Milliseconds on the monotonic clock of the system, which all processes share. */
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

  /** The values of their keys, in the order of the resources; null where nothing is held. */
  get values() {
    return this.members.map(({ reservation }) => reservation._reserve_val || null);
  }

  /** Who held what when: `[{ who, resource, from, to }]`; `to` is Infinity while it is held. */
  get tenures() {
    return this.members.flatMap(({ resource, tenures }) =>
      tenures.map(({ from, to }) => ({ who: this.who, resource, from, to })),
    );
  }

  /** Locks all resources, which must be free. */
  async take() {
    await Promise.all(
      this.members.map(async (member) => {
        assert.equal(await member.reservation.lock(member.resource), true, `${member.resource} was free`);
        this.begin(member);
      }),
    );
  }

  /** Waits for all resources. Calls `had(member)` for each that was acquired. */
  async wait(had = () => {}, options = {}) {
    await Promise.all(
      this.members.map(async (member) => {
        await member.reservation.wait_until_lock(member.resource, options);
        this.begin(member);
        had(member);
      }),
    );
  }

  /** Releases all. Resolves with the number of freed keys. */
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
    // A waiter whose lease had ended before its answer does not hold.
    if (reservation.is_held(resource)) tenures.push({ from: now(), to: null });
  }

  end({ tenures }) {
    const last = tenures.at(-1);
    if (last && last.to === null) last.to = now();
  }
}

/** A line for each two tenures of one resource that overlap. */
function overlapsOf(tenures) {
  const lines = [];
  const end = ({ to }) => (to === null ? Infinity : to);
  const sorted = [...tenures].sort((one, other) => one.from - other.from);
  const latest = new Map(); // resource -> the earlier tenure that ends last
  for (const tenure of sorted) {
    const former = latest.get(tenure.resource);
    if (former && end(former) > tenure.from) {
      lines.push(`${tenure.resource}: ${tenure.who} held it before ${former.who} knew of its end`);
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

  /** Starts to wait for all. */
  wait() {
    this.had.clear();
    this.child.send('wait');
  }

  /** Resolves once all have acquired their resource. */
  async allHad({ timeout = 20000 } = {}) {
    const missing = () => this.resources.length - this.had.size;
    await until(() => missing() === 0, { timeout, what: 'all that is waited for' }).catch((error) => {
      error.message += `; ${missing()} are missing`;
      throw this.child.describe(error);
    });
  }

  /** Releases all. Resolves with `{ freed, losses, tenures }`; losses and tenures are those of the whole time. */
  async release() {
    this.child.send('release');
    return this.child.message(({ freed }) => freed !== undefined, { timeout: 20000 });
  }
}

module.exports = { Crew, RemoteCrew, startCrew, overlapsOf, now };
