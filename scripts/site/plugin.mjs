// A TypeDoc plugin for what the options do not cover.
import { Converter, PageEvent } from 'typedoc';

const HEADING = /^(?:\s*<!--[\s\S]*?-->)?\s*# (.+)\n/;

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
  // Icons from the page itself, where TypeDoc's script puts them: from disk, browsers cannot use parts of another file.
  app.renderer.on(PageEvent.END, (page) => {
    page.contents = page.contents?.replaceAll(/href="[^"]*icons\.svg#icon-/g, 'href="#icon-');
  });
}
