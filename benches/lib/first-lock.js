// A whole program for the start-up scenario: takes one lock with the contender named by its first argument, says so, and
// is done. Without a contender it says so at once: what Node itself takes.
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
  // One write, at once: the bench stops its clock when it comes.
  process.stdout.write(JSON.stringify({ ...found, at: performance.now() }), () => process.exit(0));
});
