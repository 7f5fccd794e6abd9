// How series look, and the legend that says so. It is part of the page rather than of the canvas: it wraps on a phone, and a
// screen reader finds it.
import type { ChartSpec, Look, Marker } from './chart-spec.js';
import { html, Markup } from './markup.js';

const colourCount = 6;
const dashes: readonly (readonly number[])[] = [[], [7, 3], [2, 3]];
const guideDashes: readonly (readonly number[])[] = [
  [7, 4],
  [2, 3],
  [10, 3, 2, 3],
];
const markerPaths: Record<Marker, string> = {
  circle: 'M9 7a4 4 0 1 0 8 0a4 4 0 1 0-8 0z',
  rectRot: 'M13 2.5l4.5 4.5l-4.5 4.5l-4.5-4.5z',
  triangle: 'M13 2.5l4.5 8h-9z',
  rect: 'M9.5 3.5h7v7h-7z',
  star: 'M13 2v10M8 7h10M9.5 3.5l7 7M16.5 3.5l-7 7',
  crossRot: 'M9.5 3.5l7 7M16.5 3.5l-7 7',
};
const markers = Object.keys(markerPaths) as Marker[];

/** 18 looks before two are alike. */
function lookOf(place: number): Look {
  const dash = dashes[Math.floor(place / colourCount) % dashes.length];
  return { colour: place % colourCount, marker: markers[place % markers.length], dash };
}

export function guideLook(place: number): Look {
  return { colour: 'guide', marker: null, dash: guideDashes[place % guideDashes.length] };
}

/** Gives every name a look, the same each time. */
export function looks(): (name: string) => Look {
  const known = new Map<string, Look>();
  return (name) => {
    const look = known.get(name) ?? lookOf(known.size);
    known.set(name, look);
    return look;
  };
}

/** None where every bar has its name beside it. */
export function legendOf({ series, kind, apart }: ChartSpec): Markup | '' {
  if (apart) return '';
  const entries = series.map(({ name, look }) => html`<li>${sample(look, kind)}${name}</li>`);
  return html`<ul class="legend">${entries}</ul>`;
}

function sample({ colour, marker, dash }: Look, kind: ChartSpec['kind']): Markup {
  const line = new Markup(`<path d="M0 7H26" stroke-dasharray="${dash.join(' ') || 'none'}"/>`);
  const shape = marker === null ? '' : new Markup(`<path class="marker" d="${markerPaths[marker]}"/>`);
  const bar = new Markup('<path class="marker" d="M7 1h12v12h-12z"/>');
  const parts = kind === 'bars' ? bar : [kind === 'lines' || marker === null ? line : '', shape];
  return html`<svg class="colour-${colour}" viewBox="0 0 26 14" width="26" height="14" aria-hidden="true">${parts}</svg>`;
}
