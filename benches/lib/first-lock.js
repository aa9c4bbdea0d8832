// A whole program for the start-up scenario: acquires one lock with the contender of its first argument, and reports it.
// Without a contender it reports at once, to measure Node alone.
'use strict';

const [id, json] = process.argv.slice(2);

async function main() {
  if (id === 'bare') return {};
  const contender = require(`../contenders/${id}`);
  let loaded;
  if (contender.load) {
    const start = performance.now();
    contender.load();
    loaded = performance.now() - start;
  }
  const session = await contender.open(JSON.parse(json));
  if (!(await session.make('startup').acquire())) throw new Error('a free resource could not be locked');
  return { loaded };
}

main().then((found) => {
  // One synchronous write: the bench stops its clock when it arrives.
  process.stdout.write(JSON.stringify({ ...found, at: performance.now() }), () => process.exit(0));
});
