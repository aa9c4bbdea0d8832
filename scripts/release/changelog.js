// Reads the newest entry of CHANGELOG.md, which alone decides the version: its heading, and the text below it.
'use strict';

/** `{ version, date, notes }` of the newest heading, `## [1.2.3] - 2026-01-31` or `- unreleased` (then `date` is null). */
function newestEntry(text) {
  const [, ...entries] = text.split(/^## /m);
  if (entries.length === 0) throw new Error('CHANGELOG.md has no "## [version] - date"');
  const [heading] = entries[0].split('\n', 1);
  const found = /^\[(\d+\.\d+\.\d+(?:-[0-9A-Za-z.-]+)?)\] - (\d{4}-\d{2}-\d{2}|unreleased)$/.exec(
    heading.trim(),
  );
  if (!found) throw new Error(`CHANGELOG.md: "## ${heading}" is not "## [version] - date"`);
  const [, version, date] = found;
  const notes = entries[0].slice(heading.length).trim();
  if (notes === '') throw new Error(`CHANGELOG.md says nothing about ${version}`);
  return { version, date: date === 'unreleased' ? null : date, notes };
}

module.exports = { newestEntry };
