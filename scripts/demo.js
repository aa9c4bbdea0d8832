// `npm run demo`: the set-up, then the story in scripts/demo/ on real processes and a real redis.
'use strict';

const { setup } = require('./setup');

async function main() {
  Object.assign(process.env, setup());
  // Loaded only now: it needs npm packages that the set-up has just installed.
  const { playStory } = require('./demo/story');
  return (await playStory()) ? 0 : 1;
}

main().then(
  (code) => process.exit(code),
  (error) => {
    process.stderr.write(`\nThe demo did not come to its end: ${error.message}\n`);
    process.exit(1);
  },
);
