// The SVG chart of a scenario: bars for each contender, or lines for a scenario about growth. Its style sets the colours for
// light and for dark pages.
'use strict';

const { format } = require('./table');

const WIDTH = 760;

/** Each colour as drawn (which the style replaces), on light pages, on dark pages. */
const colours = {
  text: ['#000001', '#1f2328', '#e6edf3'],
  faint: ['#000002', '#59636e', '#9198a1'],
  grid: ['#000003', '#d8dee4', '#3d444d'],
  ours: ['#000004', '#cf222e', '#ff7b72'],
  safe: ['#000005', '#0969da', '#4493f8'],
  unsafe: ['#000006', '#8c959f', '#6e7681'],
  fourth: ['#000007', '#8250df', '#a371f7'],
  fifth: ['#000008', '#1a7f37', '#3fb950'],
};
const paint = (name) => colours[name][0];

/** The chart as text. */
function chart(result) {
  const echarts = require('echarts');
  const rows = result.rows.filter((row) => !row.failed);
  const draw = result.chart === 'lines' ? lines : bars;
  const { height, option } = draw(result, rows);
  const canvas = echarts.init(null, null, { renderer: 'svg', ssr: true, width: WIDTH, height });
  canvas.setOption({
    animation: false,
    textStyle: { fontFamily: 'system-ui, Helvetica, Arial, sans-serif', color: paint('text') },
    title: {
      text: `${result.name}: ${result.title}`,
      subtext: caption(result),
      left: 8,
      top: 6,
      textStyle: { fontSize: 14, fontWeight: 600, color: paint('text') },
      subtextStyle: { fontSize: 11, color: paint('faint') },
    },
    ...option,
  });
  const picture = canvas.renderToSVGString();
  canvas.dispose();
  return themed(picture);
}

function caption({ chart: kind, measures, rounds }) {
  const [{ label, unit, best }] = measures;
  const better = best === 'high' ? 'more is better' : 'less is better';
  const medians = `medians of ${rounds} interleaved rounds`;
  if (kind === 'lines') return `${better}; ${medians}`;
  // A head of two lines becomes one.
  const measured = `${label}, ${unit}`.replace(/-, /, '').replace(/,+, /, ', ');
  return `${measured}; ${better}; ${medians}, lines from lowest to highest; grey: no safe lock`;
}

/** Ours, a safe lock, or one that is only for comparison. */
function tone({ key, id, safe }) {
  if (key === 'bare' || !safe) return 'unsafe';
  return id === 'ours' ? 'ours' : 'safe';
}

function bars({ measures: [{ key, best }] }, all) {
  // The best at the top, the worst at the bottom.
  const rank = (row) => row.figures[key].median * (best === 'high' ? -1 : 1);
  const rows = all.filter((row) => row.figures[key]).sort((a, b) => rank(b) - rank(a));
  const values = rows.map((row) => row.figures[key].median);
  const isWide = Math.min(...values) > 0 && Math.max(...values) / Math.min(...values) > 60;
  const floor = 10 ** Math.floor(Math.log10(Math.min(...values)));
  const data = rows.map((row) => ({
    value: row.figures[key].median,
    itemStyle: { color: paint(tone(row)) },
  }));
  return {
    height: 84 + rows.length * 26,
    option: {
      grid: { left: 178, right: 70, top: 58, bottom: 26 },
      xAxis: {
        type: isWide ? 'log' : 'value',
        ...(isWide && { min: floor, startValue: floor }),
        axisLabel: {
          color: paint('faint'),
          fontSize: 10,
          hideOverlap: true,
          formatter: (value) => value.toLocaleString('en'),
        },
        splitLine: { lineStyle: { color: paint('grid') } },
      },
      yAxis: {
        type: 'category',
        data: rows.map((row) => row.label),
        axisTick: { show: false },
        axisLine: { lineStyle: { color: paint('grid') } },
        axisLabel: { color: paint('text'), fontSize: 12 },
      },
      series: [
        {
          type: 'bar',
          data,
          barWidth: 14,
          label: {
            show: true,
            position: 'right',
            color: paint('text'),
            fontSize: 11,
            formatter: ({ value }) => format(value),
          },
        },
        spread(rows.map((row) => row.figures[key])),
      ],
    },
  };
}

/** A thin line for each bar, from the lowest round to the highest. */
function spread(figures) {
  return {
    type: 'custom',
    data: figures.map(({ low, high }, place) => [low, high, place]),
    encode: { x: [0, 1], y: 2 },
    renderItem(_, api) {
      const [from, y] = api.coord([api.value(0), api.value(2)]);
      const [to] = api.coord([api.value(1), api.value(2)]);
      return {
        type: 'line',
        shape: { x1: from, y1: y + 9, x2: to, y2: y + 9 },
        style: { stroke: paint('text'), lineWidth: 1 },
      };
    },
  };
}

function lines({ measures }, rows) {
  const palette = ['ours', 'safe', 'unsafe', 'fourth', 'fifth'];
  return {
    height: 300,
    option: {
      grid: { left: 52, right: 44, top: 84, bottom: 28 },
      legend: {
        top: 50,
        left: 8,
        itemHeight: 8,
        itemGap: 18,
        textStyle: { color: paint('text'), fontSize: 11 },
      },
      xAxis: {
        type: 'category',
        boundaryGap: false,
        data: measures.map(({ label }) => label),
        axisLine: { lineStyle: { color: paint('grid') } },
        axisLabel: { color: paint('faint'), fontSize: 11 },
      },
      yAxis: {
        type: 'value',
        min: 0,
        axisLabel: { color: paint('faint'), fontSize: 10 },
        splitLine: { lineStyle: { color: paint('grid') } },
      },
      series: rows.map((row, place) => ({
        name: row.label,
        type: 'line',
        data: measures.map(({ key }) => row.figures[key]?.median ?? null),
        color: paint(palette[place % palette.length]),
        symbolSize: 6,
      })),
    },
  };
}

/** The style that sets the colours, by the reader's preference for light or dark. */
function themed(picture) {
  const rules = (place) =>
    Object.values(colours)
      .map(
        (colour) =>
          `[fill="${colour[0]}"]{fill:${colour[place]}}[stroke="${colour[0]}"]{stroke:${colour[place]}}`,
      )
      .join('');
  const style = `<style>${rules(1)}@media (prefers-color-scheme:dark){${rules(2)}}</style>`;
  return picture.replace(/(<svg[^>]*>)/, `$1\n${style}`);
}

module.exports = { chart };
