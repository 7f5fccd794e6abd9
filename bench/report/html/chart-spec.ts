// What the page's script draws: plain data, made here and read from the page as JSON. It imports nothing, because the
// script's types are checked for a browser.

export interface Point {
  /** A number, or the place in `labels`. */
  readonly x: number;
  readonly y: number;
  /** Ends of a thin line through the point: what the slowest and the fastest tenth of the calls gave. */
  readonly low?: number;
  readonly high?: number;
  /** For the tooltip. */
  readonly note: string;
  /** Written at the end of a bar. */
  readonly text?: string;
}

/** As Chart.js calls them. */
export type Marker = 'circle' | 'rectRot' | 'triangle' | 'rect' | 'star' | 'crossRot';

/** Colour, marker and dash tell series apart together: also in print, and for everyone. */
export interface Look {
  /** A number of the style's colours; 'guide' for a line to compare with. */
  readonly colour: number | 'guide';
  readonly marker: Marker | null;
  readonly dash: readonly number[];
}

export interface Series {
  readonly name: string;
  readonly look: Look;
  readonly points: readonly Point[];
}

export interface Axis {
  readonly title: string;
  readonly scale: 'linear' | 'logarithmic';
  /** Where the axis counts categories. */
  readonly labels?: readonly string[];
  /** Where to put ticks, if not where the library likes them. */
  readonly ticks?: readonly number[];
  readonly min?: number;
  readonly max?: number;
}

export interface ChartSpec {
  readonly id: string;
  readonly title: string;
  /** Under the chart: what to look for. */
  readonly caption: string;
  /** Lines join their points in order; bars are horizontal, with the categories on their left. */
  readonly kind: 'lines' | 'points' | 'bars';
  /** Of bars: each has a category of its own, with the name of its series. */
  readonly apart?: true;
  readonly x: Axis;
  readonly y: Axis;
  readonly series: readonly Series[];
}
