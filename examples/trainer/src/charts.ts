// Line charts as SVG, drawn by Apache ECharts without a browser.

import { LineChart } from 'echarts/charts';
import { GridComponent, LegendComponent, TitleComponent } from 'echarts/components';
import { init, use } from 'echarts/core';
import { SVGRenderer } from 'echarts/renderers';
import { hashOf } from './random.js';

use([LineChart, GridComponent, LegendComponent, TitleComponent, SVGRenderer]);

export interface Line {
  name: string;
  points: (readonly [x: number, y: number])[];
}

export interface Chart {
  title: string;
  lines: Line[];
  /** What is on the x axis. */
  x?: string;
}

const COLOURS = [
  '#1f6feb', '#d4572a', '#3a9d5d', '#8250df', '#bf8700', '#0a7ea4',
  '#cf222e', '#57606a', '#e85aad', '#116329', '#953800', '#6e7781',
]; // biome-ignore format: two rows

export function drawChart({ title, lines, x = 'step' }: Chart, width = 560, height = 340): string {
  const rows = Math.ceil(lines.reduce((sum, { name }) => sum + 40 + 6 * name.length, 0) / width); // of the legend, about
  const chart = init(null, null, { renderer: 'svg', ssr: true, width, height });
  chart.setOption({
    animation: false,
    backgroundColor: '#ffffff',
    color: COLOURS,
    title: { text: title, left: 12, top: 8, textStyle: { fontSize: 14 } },
    legend: lines.length > 1 ? { bottom: 4, left: 'center', itemWidth: 18, textStyle: { fontSize: 11 } } : undefined,
    grid: { left: 52, right: 24, top: 44, bottom: 40 + (lines.length > 1 ? 22 * rows : 0) },
    xAxis: { type: 'value', name: x, nameLocation: 'middle', nameGap: 24, min: 'dataMin', max: 'dataMax' },
    yAxis: { type: 'value', scale: true },
    series: lines.map(({ name, points }) => ({
      name,
      type: 'line',
      data: points.map((point) => [...point]),
      showSymbol: points.length < 30,
      symbolSize: 4,
      lineStyle: { width: 1.6 },
    })),
  });
  const svg = chart.renderToSVGString();
  chart.dispose();
  // Its ids count all charts drawn so far: here they are of this chart alone, so that it is the same each time.
  const ids = new Map<string, string>();
  return svg.replace(/zr\d+-[a-z]+-?\d+/g, (id) => {
    const own = ids.get(id) ?? `c${hashOf(title).toString(36)}-${ids.size}`;
    ids.set(id, own);
    return own;
  });
}
