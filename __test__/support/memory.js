// What the package has in memory, as it counts by itself: V8's heap after a collection and what hangs on it, and what Rust has
// allocated. Not resident memory: that is moved by 50 MB at a time by the system, which takes pages back when it likes,
// and by allocators, which keep what they were given back.
'use strict';

const { load } = require('../../lib/load');

/** What a child needs to be started with: it collects, and its young objects have always the same room. */
const execArgv = ['--expose-gc', '--max-semi-space-size=1'];

/** Reason to skip a test that counts, where the binary does not: one that is to be shipped was built by hand. */
const skip =
  typeof load().allocated_bytes === 'function'
    ? false
    : 'this binary does not count what it has allocated: npm run build:debug';

/**
 * In a child: `alive()`, the bytes that are in use at this very moment; and `settled(least)`, which waits for them to be no more
 * than that, for as long as it takes others to let go, and resolves with them at last. A megabyte has 2^20 bytes.
 */
const source = `
  const alive = () => {
    global.gc();
    const { used_heap_size, external_memory } = require('node:v8').getHeapStatistics();
    return used_heap_size + external_memory + require('./lib/load').load().allocated_bytes();
  };
  const MB = 1048576;
  const settled = async (most, patience = 20000) => {
    const end = performance.now() + patience;
    for (;;) {
      // What is collected may have more to let go of in a later turn.
      await new Promise(setImmediate);
      const bytes = alive();
      if (bytes <= most || performance.now() > end) return bytes;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  };`;

module.exports = { execArgv, skip, source };
