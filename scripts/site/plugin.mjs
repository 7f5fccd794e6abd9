// A TypeDoc plugin for what the options do not cover.
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { rolldown } from 'rolldown';
import { Converter, PageEvent } from 'typedoc';
import { FOR_BROWSERS } from '../web/twins.mjs';

const HEADING = /^(?:\s*<!--[\s\S]*?-->)?\s*# (.+)\n/;

/** @param {string} file */
async function bundleDemo(file) {
  const bundle = await rolldown({ ...FOR_BROWSERS, input: fileURLToPath(new URL('demo/main.ts', import.meta.url)) });
  const { output } = await bundle.generate({ format: 'iife', minify: true });
  await bundle.close();
  await writeFile(file, output[0].code);
}

/** @param {import('typedoc').Application} app */
export function load(app) {
  // A document is named after its first heading, not its file, and does not repeat it.
  app.converter.on(Converter.EVENT_CREATE_DOCUMENT, (_context, document) => {
    const [first] = document.content;
    const heading = first?.kind === 'text' ? HEADING.exec(first.text) : null;
    if (!heading) throw new Error(`${document.name}: a document starts with a heading`);
    document.name = heading[1];
    first.text = first.text.slice(heading[0].length);
  });
  // The page that trains (docs/demo.md). A script and not a module: from disk, browsers load no modules.
  app.renderer.on(PageEvent.END, (page) => {
    if (!page.contents?.includes('<div id="demo">')) return;
    page.contents = page.contents.replace('</body>', '<script src="../assets/demo.js"></script></body>');
    app.renderer.postRenderAsyncJobs.push(({ outputDirectory }) =>
      bundleDemo(join(outputDirectory, 'assets', 'demo.js')),
    );
  });
  // Icons from the page itself, where TypeDoc's script puts them: from disk, browsers cannot use parts of another file.
  app.renderer.on(PageEvent.END, (page) => {
    page.contents = page.contents?.replaceAll(/href="[^"]*icons\.svg#icon-/g, 'href="#icon-');
  });
}
