// The page of docs/demo.md: trains the demo's policies in the browser that shows it, side by side, and draws their curves meanwhile.
import { svgChart } from '../../../cli/demo/svg-chart.js';
import { type TrainingRun, train } from '../../../cli/demo/trainer.js';
import { backends } from '../../../lib/index.js';

const LOSSES = ['conspo', 'grpo'] as const;
const STEPS = 300;

/** The parts of the page. */
interface Parts {
  readonly button: HTMLButtonElement;
  readonly seed: HTMLInputElement;
  readonly status: HTMLElement;
  readonly chart: HTMLElement;
  readonly results: HTMLElement;
}

function buildParts(place: HTMLElement): Parts {
  place.innerHTML = `
    <form>
      <button type="submit">Train</button>
      <label>Seed <input type="number" min="0" max="4294967295" step="1" value="1" required></label>
      <output></output>
    </form>
    <figure></figure>
    <div class="results"></div>`;
  const part = <E extends HTMLElement>(selector: string) => place.querySelector<E>(selector)!;
  return {
    button: part('button'),
    seed: part('input'),
    status: part('output'),
    chart: part('figure'),
    results: part('.results'),
  };
}

/** Trains with all losses at a time: each gives the others, and the page, their turns after every step. */
async function trainAll(parts: Parts, seed: number, signal: AbortSignal): Promise<TrainingRun[]> {
  const curves = LOSSES.map((name) => ({ name, values: [] as number[] }));
  let frame = 0;
  const draw = () => {
    frame = 0;
    parts.chart.innerHTML = svgChart(curves, STEPS);
    parts.status.textContent = `step ${Math.min(...curves.map(({ values }) => values.length - 1))} of ${STEPS}`;
  };
  const trainOne = (loss: (typeof LOSSES)[number], curve: number) => {
    const onStep = (step: number, accuracy: number) => {
      curves[curve].values[step] = accuracy;
      frame ||= requestAnimationFrame(draw);
    };
    return train({ loss, steps: STEPS, seed, backend: undefined, signal, onStep });
  };
  try {
    return await Promise.all(LOSSES.map(trainOne));
  } finally {
    cancelAnimationFrame(frame);
    draw();
  }
}

function renderResults(runs: readonly TrainingRun[]): string {
  const rows = runs.map(({ loss, accuracy, accuracies, sampledAccuracies, steps }) => {
    const firstGood = accuracies.findIndex((value) => value >= 0.9);
    const cells = [loss, accuracy.toFixed(2), sampledAccuracies[steps].toFixed(2), firstGood < 0 ? '–' : firstGood];
    return `<tr>${cells.map((cell) => `<td>${cell}</td>`).join('')}</tr>`;
  });
  const headers = ['loss', 'greedy answers right', 'sampled answers right', 'greedy 0.9 at step'];
  return `<table><thead><tr>${headers.map((header) => `<th>${header}</th>`).join('')}</tr></thead>
    <tbody>${rows.join('')}</tbody></table>`;
}

/** Which backend runs, by the same rule as that of a call. */
function backendHere(): string {
  const { name, simd } = backends().find(({ available }) => available)!;
  return simd ? `${name} (${simd})` : name;
}

function start(place: HTMLElement): void {
  const parts = buildParts(place);
  let running: AbortController | undefined;
  parts.chart.innerHTML = svgChart([], STEPS);
  parts.status.textContent = `backend ${backendHere()}`;
  const run = async (signal: AbortSignal) => {
    const begin = performance.now();
    parts.results.innerHTML = '';
    try {
      const runs = await trainAll(parts, parts.seed.valueAsNumber, signal);
      const seconds = ((performance.now() - begin) / 1000).toFixed(1);
      parts.results.innerHTML = renderResults(runs);
      parts.status.textContent = `trained in ${seconds} s on ${backendHere()}`;
    } catch (error) {
      parts.status.textContent = signal.aborted ? 'stopped' : String(error);
    }
  };
  place.querySelector('form')!.addEventListener('submit', async (event) => {
    event.preventDefault();
    if (running) return running.abort();
    running = new AbortController();
    parts.button.textContent = 'Stop';
    await run(running.signal);
    parts.button.textContent = 'Train';
    running = undefined;
  });
}

start(document.getElementById('demo')!);
