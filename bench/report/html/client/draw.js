// Draws the charts whose description the page carries as JSON. It runs in a browser, inside the page, after Chart.js.

/**
 * @typedef {import('../chart-spec.js').ChartSpec} ChartSpec
 * @typedef {import('../chart-spec.js').Axis} Axis
 * @typedef {import('../chart-spec.js').Series} Series
 * @typedef {import('../chart-spec.js').Point} Point
 * @typedef {import('chart.js').Chart} AnyChart
 * @typedef {{ text: string, soft: string, panel: string, grid: string, guide: string, series: string[] }} Colours
 * @typedef {import('chart.js').ChartConfiguration<'line' | 'scatter' | 'bar', Point[]>} Configuration
 */

const { Chart } = /** @type {{ Chart: typeof import('chart.js').Chart }} */ (/** @type {unknown} */ (globalThis));

const BAR_THICKNESS = 20;
/** Below this, names along the bottom would run into each other. */
const NAME_WIDTH = 88;
const FONT = 12;
/** Room for the number at the end of the longest bar. */
const NUMBER_WIDTH = 52;

/** @returns {Colours} */
function readColours() {
  const style = getComputedStyle(document.documentElement);
  const colour = (/** @type {string} */ name) => style.getPropertyValue(`--${name}`).trim();
  return {
    text: colour('text'),
    soft: colour('soft'),
    panel: colour('panel'),
    grid: colour('grid'),
    guide: colour('guide'),
    series: [0, 1, 2, 3, 4, 5].map((i) => colour(`series-${i}`)),
  };
}

/** 1500 as '1.5 k': what an axis has room for. @param {number} value */
function tickText(value) {
  if (value === 0) return '0';
  const steps = ['', ' k', ' M', ' G', ' T'];
  const step = Math.min(Math.max(Math.floor(Math.log10(Math.abs(value)) / 3), 0), steps.length - 1);
  return `${Number((value / 1000 ** step).toPrecision(3))}${steps[step]}`;
}

/** Lines of at most so many characters, broken between words. @param {string} text @param {number} width */
function wrap(text, width) {
  /** @type {string[]} */
  const lines = [];
  for (const word of text.split(' ')) {
    const last = lines.at(-1);
    if (last === undefined || last.length + 1 + word.length > width) lines.push(word);
    else lines[lines.length - 1] = `${last} ${word}`;
  }
  return lines;
}

/** The powers of ten between two values, with twice and five times them where there are few. @param {number} min @param {number} max */
function logarithmicTicks(min, max) {
  const digits = Math.log10(max / min) < 2.5 ? [1, 2, 5] : [1];
  const from = Math.floor(Math.log10(min));
  const powers = Array.from({ length: Math.ceil(Math.log10(max)) - from + 1 }, (_, i) => from + i);
  // 10 ** -2 is not quite 0.01
  const all = powers.flatMap((power) => digits.map((digit) => Number(`${digit}e${power}`)));
  return all.filter((value) => value >= min && value <= max);
}

/** @param {Axis} axis @param {Colours} colours @param {{ bars: boolean, width: number }} place */
function scaleOf(axis, colours, place) {
  const { title, labels, scale, ticks, min, max } = axis;
  const common = {
    title: { display: title !== '', text: title, color: colours.soft, font: { size: FONT } },
    border: { color: colours.grid },
    grid: { color: colours.grid, display: labels === undefined },
  };
  const style = { color: colours.soft, font: { size: FONT - 1 }, maxRotation: 0 };
  if (labels !== undefined) return { ...common, ...categories(labels, place, style) };
  const linear = { beginAtZero: ticks === undefined, grace: '5%' };
  return {
    ...common,
    type: scale,
    min,
    max,
    ...(scale === 'linear' ? linear : {}),
    ...(ticks !== undefined || scale === 'logarithmic' ? { afterBuildTicks: putTicks(ticks) } : {}),
    ticks: { ...style, callback: (/** @type {number | string} */ value) => (ticks ? value : tickText(Number(value))) },
  };
}

/** @param {readonly string[]} labels @param {{ bars: boolean, width: number }} place @param {object} style */
function categories(labels, { bars, width }, style) {
  const steep = !bars && width < labels.length * NAME_WIDTH;
  const texts = labels.map((label) => (steep ? label : wrap(label, bars ? 16 : 12)));
  const callback = (/** @type {number | string} */ value) => texts[Number(value)] ?? '';
  const rotation = steep ? { minRotation: 50, maxRotation: 50 } : {};
  return {
    type: /** @type {const} */ ('category'),
    // Points have the numbers of their categories, which Chart.js finds here although its types know of strings alone.
    labels: /** @type {string[]} */ (/** @type {unknown} */ (labels.map((_, i) => i))),
    offset: true,
    ticks: { ...style, ...rotation, autoSkip: false, callback },
  };
}

/** @param {readonly number[] | undefined} ticks */
function putTicks(ticks) {
  return (/** @type {import('chart.js').Scale} */ axis) => {
    axis.ticks = (ticks ?? logarithmicTicks(axis.min, axis.max)).map((value) => ({ value }));
  };
}

/** @param {Series} series @param {ChartSpec} spec @param {Colours} colours */
function datasetOf({ name, look, points }, { kind, apart }, colours) {
  const guide = look.colour === 'guide';
  const colour = look.colour === 'guide' ? colours.guide : colours.series[look.colour];
  const data = points.map((point) => ({ ...point }));
  const common = { label: name, data, borderColor: colour, backgroundColor: colour };
  if (kind === 'bars') {
    return {
      ...common,
      type: /** @type {const} */ ('bar'),
      borderRadius: 2,
      categoryPercentage: 0.84,
      barPercentage: 0.86,
      grouped: !apart,
    };
  }
  return {
    ...common,
    type: /** @type {const} */ ('line'),
    order: guide ? 1 : 0,
    showLine: guide || kind === 'lines',
    borderWidth: guide ? 1.5 : 2,
    borderDash: [...look.dash],
    pointRadius: guide ? 0 : 4,
    pointHoverRadius: guide ? 0 : 6,
    pointStyle: look.marker ?? undefined,
    pointBorderWidth: 2,
  };
}

/** Thin lines from the slowest to the fastest tenth, and the numbers at the ends of bars. */
const spreadAndNumbers = {
  id: 'spreadAndNumbers',
  /** @param {AnyChart} chart */
  afterDatasetsDraw(chart) {
    const colours = readColours();
    for (const { index, data } of chart.getSortedVisibleDatasetMetas()) {
      const points = /** @type {Point[]} */ (/** @type {unknown} */ (chart.data.datasets[index].data));
      for (const [i, element] of data.entries()) drawPoint(chart, points[i], element, colours);
    }
  },
};

/** @param {AnyChart} chart @param {Point} point @param {{ x: number, y: number }} at @param {Colours} colours */
function drawPoint({ ctx, scales, options, chartArea }, { low, high, text }, at, colours) {
  const lying = options.indexAxis === 'y';
  const scale = lying ? scales.x : scales.y;
  const [first, last] = lying ? [chartArea.left, chartArea.right] : [chartArea.top, chartArea.bottom];
  const within = (/** @type {number} */ pixel) => Math.min(Math.max(pixel, first), last);
  const ends = [low, high].map((value) => (value === undefined ? undefined : within(scale.getPixelForValue(value))));
  const [from, to] = ends;
  ctx.save();
  if (from !== undefined && to !== undefined) {
    ctx.strokeStyle = colours.text;
    ctx.lineWidth = 1;
    ctx.beginPath();
    ctx.moveTo(lying ? from : at.x, lying ? at.y : from);
    ctx.lineTo(lying ? to : at.x, lying ? at.y : to);
    ctx.stroke();
  }
  if (text !== undefined) {
    ctx.fillStyle = colours.text;
    ctx.font = `${FONT - 1}px ${Chart.defaults.font.family}`;
    ctx.textBaseline = 'middle';
    ctx.fillText(text, Math.max(at.x, to ?? at.x) + 5, at.y);
  }
  ctx.restore();
}

/** @param {ChartSpec} spec @param {Colours} colours @param {number} width @returns {Configuration} */
function configurationOf(spec, colours, width) {
  const { kind, x, y, series } = spec;
  const bars = kind === 'bars';
  return {
    type: bars ? 'bar' : 'line',
    data: { datasets: series.map((one) => datasetOf(one, spec, colours)) },
    options: {
      responsive: true,
      maintainAspectRatio: false,
      animation: false,
      indexAxis: bars ? 'y' : 'x',
      layout: { padding: { right: bars ? NUMBER_WIDTH : 10 } },
      interaction: { mode: 'nearest', intersect: bars },
      scales: {
        x: scaleOf(x, colours, { bars: false, width }),
        y: scaleOf(y, colours, { bars, width }),
      },
      plugins: {
        legend: { display: false }, // it is in the page
        tooltip: {
          callbacks: {
            title: () => '',
            label: ({ dataset, raw }) => [String(dataset.label), ...wrap(/** @type {Point} */ (raw).note, 44)],
          },
        },
      },
    },
    plugins: [spreadAndNumbers],
  };
}

/** @param {ChartSpec} spec */
function heightOf({ kind, apart, y, series }) {
  const bars = (y.labels?.length ?? 1) * (apart ? 1.5 : Math.max(series.length, 1.5));
  return kind === 'bars' ? bars * BAR_THICKNESS + 60 : 300;
}

/** @type {AnyChart[]} */
let drawn = [];

function draw() {
  for (const chart of drawn) chart.destroy();
  const colours = readColours();
  Chart.defaults.font.family = getComputedStyle(document.body).fontFamily;
  const specs = /** @type {ChartSpec[]} */ (JSON.parse(document.getElementById('charts')?.textContent ?? '[]'));
  drawn = specs.map((spec) => {
    const canvas = /** @type {HTMLCanvasElement} */ (document.getElementById(spec.id));
    const plot = /** @type {HTMLElement} */ (canvas.parentElement);
    plot.style.height = `${heightOf(spec)}px`;
    return /** @type {AnyChart} */ (new Chart(canvas, configurationOf(spec, colours, plot.clientWidth)));
  });
}

draw();
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', draw);
