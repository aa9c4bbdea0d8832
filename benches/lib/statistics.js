// The statistics of a benchmark. Medians throughout, since on a shared machine other programs disturb a mean.
'use strict';

/** The quantile `share` (0 to 1) of the values, interpolated. */
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
 * The ratio of a contender's figures to `others`: for each round, since a disturbance affects all contenders of a round, then
 * the median.
 */
function ratio(values, others) {
  const pairs = values.map((value, round) => value / others[round]).filter(Number.isFinite);
  return median(pairs);
}

module.exports = { quantile, median, summary, ratio };
