// Arithmetic on spans of time, `[from, to]` in ms: the parts without faults.
'use strict';

/** How much of the span lies outside of all `holes` (which may overlap one another). */
function outside([from, to], holes) {
  return pieces([from, to], holes).reduce((sum, [start, end]) => sum + (end - start), 0);
}

/** The longest piece of the span without a hole, or null. */
function longestPiece(span, holes) {
  let longest = null;
  for (const piece of pieces(span, holes)) {
    if (!longest || piece[1] - piece[0] > longest[1] - longest[0]) longest = piece;
  }
  return longest;
}

function pieces([from, to], holes) {
  const found = [];
  let start = from;
  for (const [begin, end] of [...holes].sort((one, other) => one[0] - other[0])) {
    if (end <= start) continue;
    if (begin >= to) break;
    if (begin > start) found.push([start, begin]);
    start = end;
  }
  if (start < to) found.push([start, to]);
  return found;
}

function touches([from, to], [begin, end]) {
  return begin <= to && end >= from;
}

module.exports = { outside, longestPiece, touches };
