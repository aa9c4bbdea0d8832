// The few sums that a benchmark needs. Medians throughout: on a machine that others use too, a mean tells of them.
'use strict';

/** The value below which `share` (0 to 1) of the values lie, between two of them if need be. */
function quantile(values, share) {
  const sorted = Float64Array.from(values).sort();
  if (sorted.length === 0) return NaN;
  const place = (sorted.length - 1) * share;
  const low = Math.floor(place);
  const high = Math.ceil(place);
  return sorted[low] + (sorted[high] - sorted[low]) * (place - low);
}

function median(values) {
  return quantile(values, 0.5);
}

/** The median of the rounds' figures, and the range they lie in. */
function summary(values) {
  return { median: median(values), low: quantile(values, 0), high: quantile(values, 1), values: [...values] };
}

/**
 * How many times `others` a contender's figures are: round by round, for what disturbs the machine disturbs neighbours
 * in one round alike, then the median of that.
 */
function ratio(values, others) {
  const pairs = values.map((value, round) => value / others[round]).filter(Number.isFinite);
  return median(pairs);
}

module.exports = { quantile, median, summary, ratio };
