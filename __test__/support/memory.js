// The memory that the package uses: V8's heap after a collection with its external memory, and what Rust has allocated. Not
// resident memory: the system, which takes pages back at any time, and allocators, which keep freed memory, move that by 50 MB.
'use strict';

const { load } = require('../../lib/load');

/** Options of Node for such a child: it can collect, and its young generation has a fixed size. */
const execArgv = ['--expose-gc', '--max-semi-space-size=1'];

/** Reason to skip such a test: the binary was built for release, and does not count its allocations. */
const skip =
  typeof load().allocated_bytes === 'function'
    ? false
    : 'this binary does not count what it has allocated: npm run build:debug';

/**
 * In a child: `alive()` gives the bytes in use right now. `settled(most)` waits, for a limited time, until there are at most
 * `most`, and resolves with the bytes in use. A megabyte has 2^20 bytes.
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
      // A collection may free more in a later turn.
      await new Promise(setImmediate);
      const bytes = alive();
      if (bytes <= most || performance.now() > end) return bytes;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  };`;

module.exports = { execArgv, skip, source };
