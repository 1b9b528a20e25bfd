// Sections of chapters first, then other pages, then names of the API.  A section stands in the index as "page#id".
var Scorer = {
  objNameMatch: 11, objPartialMatch: 6, objPrio: {0: 15, 1: 5, 2: -5}, objPrioDefault: 0,
  title: 15, partialTitle: 7, term: 5, partialTerm: 2,
  score: (result) => {
    const [page, id] = result[0].split("#");
    if (id) [result[0], result[2]] = [page, `#${id}`];
    const chapter = page.startsWith("notebooks/"), name = Boolean(result[3]);
    return result[4] + (chapter ? 200 : 0) - (name ? 100 : 0);
  },
};

// The lines under a result are text: a formula once, not three times, and no table of contents.
const wholeText = Search.htmlToText;
Search.htmlToText = (markup, anchor) => {
  const page = new DOMParser().parseFromString(markup, "text/html");
  page.querySelectorAll(".katex-html, annotation, .bd-toc, #jb-print-docs-body").forEach((e) => e.remove());
  return wholeText(page.documentElement.outerHTML, anchor);
};
