// Runs a scenario: interleaved rounds (A, B, C, A, B, C) on a private server, then the figures of all rounds.
'use strict';

const { contender } = require('../contenders');
const { Crew } = require('./crew');
const { BenchServer } = require('./redis');
const { ratio, summary } = require('./statistics');

/**
 * `options`: `rounds` (by default the scenario's), `only` (ids of contenders; by default all), `environment` (of the
 * children), `say` and `complain` (get what happens, and what fails). Gives `{ name, title, measures, rounds, rows, aims }`,
 * rows being the entries of the scenario with their figures.
 */
async function runScenario(scenario, options) {
  const rounds = options.rounds || scenario.rounds;
  const entries = scenario.entries
    .map(complete)
    .filter(({ id }) => !options.only || options.only.includes(id));
  const server = await BenchServer.start();
  const began = performance.now();
  const collected = entries.map(() => []);
  try {
    for (let round = 1; round <= rounds; round += 1) {
      for (const [place, entry] of entries.entries()) {
        // After a failure the entry is skipped, and the table shows the reason.
        if (entry.failed) continue;
        options.say(`${scenario.name}, round ${round} of ${rounds}: ${entry.label}`);
        collected[place].push(await oneRound(scenario, entry, server, options));
      }
    }
  } finally {
    await server.stop();
  }
  const rows = summarise(scenario, entries, collected);
  const { name, title, measures, chart } = scenario;
  const seconds = (performance.now() - began) / 1000;
  return {
    name,
    title,
    measures,
    chart,
    rounds,
    seconds,
    redis: server.version,
    rows,
    aims: judge(scenario, rows),
  };
}

/** An entry is a contender with settings. By default it has the name of the contender. */
function complete(entry) {
  const given = typeof entry === 'string' ? { id: entry } : entry;
  const { label, safe } = contender(given.id);
  return { key: given.id, label, safe, ...given };
}

async function oneRound(scenario, entry, server, options) {
  const crew = new Crew(scenario, server, options.environment);
  try {
    await server.clear();
    const figures = await scenario.round({
      entry,
      server,
      start: (settings, how) => crew.start(entry, settings, how),
      environment: options.environment,
    });
    return { peak: crew.peak || undefined, ...figures };
  } catch (error) {
    entry.failed = error.message.split('\n')[0];
    options.complain(`${scenario.name}: ${entry.label} failed: ${error.message}`);
    return null;
  } finally {
    await crew.end();
  }
}

function summarise(scenario, entries, collected) {
  const rows = entries.map((entry, place) => {
    const done = collected[place].filter(Boolean);
    const figures = {};
    for (const { key } of scenario.measures) {
      const values = done.map((round) => round[key]).filter((value) => typeof value === 'number');
      if (values.length > 0) figures[key] = summary(values);
    }
    const { key, id, label, safe, failed } = entry;
    const { note, detail } = done.at(-1) || {};
    return { key, id, label, safe: Boolean(safe), failed, note, figures, detail };
  });
  compare(scenario.measures[0], rows);
  return rows;
}

/** Adds to each row the ratio to the best safe peer, in the main measure of the scenario. */
function compare({ key, best }, rows) {
  const peers = rows.filter((row) => row.safe && row.id !== 'ours' && row.figures[key]);
  if (peers.length === 0) return;
  const better = (a, b) => (best === 'high' ? b : a);
  const rank = (row) => row.figures[key].median;
  const champion = peers.reduce((a, b) => (rank(a) <= rank(b) ? better(a, b) : better(b, a)));
  for (const row of rows) {
    if (!row.figures[key]) continue;
    row.ratio = ratio(row.figures[key].values, champion.figures[key].values);
    row.champion = row === champion;
  }
}

/** The aims of the scenario: `{ text, value, limit, met }` each; `value` is undefined where it was not measured. */
function judge(scenario, rows) {
  const find = (key) => rows.find((row) => row.key === key);
  const figure = (key, measure) => find(key)?.figures[measure]?.median;
  const times = (key, other, measure) => {
    const [mine, theirs] = [find(key)?.figures[measure], find(other)?.figures[measure]];
    return mine && theirs ? ratio(mine.values, theirs.values) : undefined;
  };
  return (scenario.aims || []).map(({ text, value, atMost, atLeast }) => {
    const got = value({ figure, times });
    if (got === undefined || Number.isNaN(got)) return { text };
    const met = atMost === undefined ? got >= atLeast : got <= atMost;
    return { text, value: got, atMost, atLeast, met };
  });
}

module.exports = { runScenario };
