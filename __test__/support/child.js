// Real child processes for tests: scripts in JS or CoffeeScript, or a few lines of code. They exchange messages and lines, can
// be stopped and killed, and end with their test.
'use strict';

const { spawn } = require('node:child_process');
const path = require('node:path');
const { reap } = require('./reaper');
const { within } = require('./wait');

const root = path.resolve(__dirname, '..', '..');

const compilers = {
  1: require.resolve('coffee-script/bin/coffee'),
  2: require.resolve('coffeescript/bin/coffee'),
};

/**
 * Starts a child process.
 *
 * `t`: the context of the test (or null). The child ends with that test.
 * `what`: a script's path (.coffee goes through the CoffeeScript compiler `options.coffee`, 1 or 2),
 *   or `{ code }`: JS for `node -e`, with `require('./index.js')` meaning the package under test.
 * `options`: `args`, `env` (on top of ours), `cwd` (the repository's root), `execArgv`, `coffee`,
 *   `uid` (the user it runs as), `through` (a command that starts it).
 */
function startChild(t, what, options = {}) {
  const child = new Child(what, options);
  if (t) t.after(() => child.kill());
  return child;
}

class Child {
  constructor(what, { args = [], env = {}, cwd = root, execArgv = [], coffee = 1, uid, through = [] }) {
    this.stdout = '';
    this.stderr = '';
    this.lines = new Feed(this);
    this.messages = new Feed(this);
    const [program, ...words] = [
      ...through,
      process.execPath,
      ...execArgv,
      ...commandLine(what, coffee),
      ...args,
    ];
    this.process = spawn(program, words, {
      cwd,
      uid,
      env: { ...process.env, ...env },
      stdio: ['pipe', 'pipe', 'pipe', 'ipc'],
    });
    this.process.stdin.on('error', () => {});
    this.pid = this.process.pid;
    reap(this.process);
    this.collect();
    /** Resolves with `{ code, signal }` when the process has ended and all its output was read. */
    this.exited = new Promise((resolve) => {
      this.process.once('close', (code, signal) => {
        this.ended = { code, signal };
        resolve(this.ended);
        this.lines.end();
        this.messages.end();
      });
    });
  }

  collect() {
    let rest = '';
    this.process.stdout.setEncoding('utf8').on('data', (text) => {
      this.stdout += text;
      const pieces = (rest + text).split('\n');
      rest = pieces.pop();
      for (const line of pieces) this.lines.add(line);
    });
    this.process.stderr.setEncoding('utf8').on('data', (text) => {
      this.stderr += text;
    });
    this.process.on('message', (message) => this.messages.add(message));
  }

  /**
   * The next line of stdout that matches (a string it contains, a RegExp, a function), after the line that the last such
   * call found.
   */
  line(wanted, { timeout = 10000 } = {}) {
    return this.lines.next(matcher(wanted), timeout, `a line like ${wanted}`);
  }

  /** The next message that matches: a function, or an object all of whose fields it has. */
  message(wanted = () => true, { timeout = 10000 } = {}) {
    const described = typeof wanted === 'function' ? 'a message' : `a message ${JSON.stringify(wanted)}`;
    return this.messages.next(matcher(wanted), timeout, described);
  }

  send(message) {
    this.process.send(message);
  }

  /** Waits for the child to end by itself: `{ code, signal }`. */
  exit({ timeout = 10000 } = {}) {
    return within(timeout, this.exited, `the end of child ${this.pid}`).catch((error) => {
      throw this.describe(error);
    });
  }

  /** Ends the child with a signal and waits for its end. */
  kill(signal = 'SIGKILL') {
    if (!this.ended) this.process.kill(signal);
    return this.exit();
  }

  /** SIGSTOP and SIGCONT. */
  pause() {
    this.process.kill('SIGSTOP');
  }

  resume() {
    this.process.kill('SIGCONT');
  }

  /** The error, with the output of the child added to its message. */
  describe(error) {
    const end = this.ended ? `ended with ${JSON.stringify(this.ended)}` : 'still running';
    error.message += `\nchild ${this.pid}, ${end}\n--- stdout\n${this.stdout}\n--- stderr\n${this.stderr}`;
    return error;
  }
}

/** Items that arrive one after another, and the calls that wait for one of them. */
class Feed {
  constructor(child) {
    this.child = child;
    this.all = [];
    this.position = 0; // earlier calls have found what lies before
    this.waiting = new Set();
    this.listeners = new Set();
  }

  /** Calls back with each item that arrives from now on. */
  listen(listener) {
    this.listeners.add(listener);
  }

  add(item) {
    this.all.push(item);
    for (const listener of this.listeners) listener(item);
    for (const waiter of this.waiting) waiter.look();
  }

  end() {
    for (const waiter of this.waiting) waiter.fail();
  }

  next(matches, timeout, what) {
    let waiter;
    const found = new Promise((resolve, reject) => {
      waiter = {
        look: () => {
          const index = this.all.findIndex((item, place) => place >= this.position && matches(item));
          if (index < 0) return;
          this.position = index + 1;
          this.waiting.delete(waiter);
          resolve(this.all[index]);
        },
        fail: () => reject(new Error(`the child ended before ${what} came`)),
      };
      this.waiting.add(waiter);
      waiter.look();
      if (this.child.ended) waiter.fail();
    });
    return within(timeout, found, what)
      .catch((error) => {
        throw this.child.describe(error);
      })
      .finally(() => this.waiting.delete(waiter));
  }
}

function matcher(wanted) {
  if (typeof wanted === 'function') return wanted;
  if (typeof wanted === 'string') return (line) => line.includes(wanted);
  if (wanted instanceof RegExp) return (line) => wanted.test(line);
  return (message) => Object.entries(wanted).every(([key, value]) => message && message[key] === value);
}

function commandLine(what, coffee) {
  if (typeof what === 'object') return ['-e', what.code];
  const script = path.resolve(root, what);
  return script.endsWith('.coffee') ? [compilers[coffee], script] : [script];
}

module.exports = { startChild, root };
