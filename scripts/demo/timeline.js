// The demo's output: one line for each event (when, who, what), and at the end each claim with whether it came true. Colours
// only on a terminal, and not with NO_COLOR.
'use strict';

const { performance } = require('node:perf_hooks');

const palette = { grey: 90, red: 31, green: 32, yellow: 33, blue: 34, magenta: 35, cyan: 36, bold: 1 };

class Timeline {
  constructor(output = process.stdout, environment = process.env) {
    this.output = output;
    this.coloured = Boolean(output.isTTY) && !environment.NO_COLOR && environment.TERM !== 'dumb';
    this.start = performance.now();
    this.colours = new Map();
    this.facts = [];
    this.marks = []; // what happened to whom, for the picture
  }

  /** Records an event for the picture: something happens to somebody now. */
  mark(who, what) {
    this.marks.push({ at: performance.now(), who, what });
  }

  /** Gives a person or thing of the story its colour. */
  cast(who, colour) {
    this.colours.set(who, colour);
  }

  scene(title) {
    this.write(`\n${this.paint('bold', title)}`);
  }

  event(who, what) {
    const seconds = `${((performance.now() - this.start) / 1000).toFixed(2).padStart(6)} s`;
    const name = this.paint(this.colours.get(who) || 'grey', who.padEnd(6));
    this.write(`${this.paint('grey', seconds)}  ${name}  ${what}`);
  }

  /** Notes a claim of the story, true or not; `detail` is what was measured. */
  fact(claim, isTrue, detail = '') {
    this.facts.push({ claim, isTrue: Boolean(isTrue), detail });
  }

  skip(claim, reason) {
    this.facts.push({ claim, isTrue: true, skipped: true, detail: reason });
  }

  /** Prints all claims. Returns whether all came true. */
  conclude() {
    this.scene('What was shown');
    for (const { claim, isTrue, skipped, detail } of this.facts) {
      const mark = skipped
        ? this.paint('yellow', 'skipped')
        : this.paint(isTrue ? 'green' : 'red', isTrue ? 'yes' : 'NO');
      // Padded by visible width, without the colour codes.
      const gap = ' '.repeat(9 - (skipped ? 7 : isTrue ? 3 : 2));
      this.write(`${mark}${gap}${claim}${detail && this.paint('grey', ` (${detail})`)}`);
    }
    return this.facts.every(({ isTrue }) => isTrue);
  }

  write(line) {
    this.output.write(`${line}\n`);
  }

  paint(colour, text) {
    return this.coloured ? `\x1b[${palette[colour]}m${text}\x1b[0m` : text;
  }
}

module.exports = { Timeline };
