import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { brotliDecompressSync } from 'node:zlib';

export interface Assets {
  /** Chart.js, which brings its name, version and license in its first lines. */
  readonly library: string;
  readonly script: string;
  readonly style: string;
}

export function readAssets(): Assets {
  const text = (file: string) => readFileSync(file, 'utf8').replaceAll('\r', '');
  return {
    library: library().replace(/^\/\/# sourceMappingURL=.*$/m, ''),
    script: text(clientFile('draw.js')),
    style: text(clientFile('page.css')),
  };
}

function clientFile(name: string): string {
  return fileURLToPath(new URL(`client/${name}`, import.meta.url));
}

/** Beside the page's script, where scripts/page-assets.mjs puts it in dist/; for the sources, where npm puts it. */
function library(): string {
  const name = 'chart.umd.min.js';
  const built = clientFile(`${name}.br`);
  if (existsSync(built)) return brotliDecompressSync(readFileSync(built)).toString();
  return readFileSync(join(dirname(createRequire(import.meta.url).resolve('chart.js')), name), 'utf8');
}
