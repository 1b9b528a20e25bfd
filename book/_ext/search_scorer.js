// Sections of chapters first, then other pages, then names of the API.  A section stands in the index as "page#id".
var Scorer = {
  objNameMatch: 11, objPartialMatch: 6, objPrio: {0: 15, 1: 5, 2: -5}, objPrioDefault: 0,
  title: 15, partialTitle: 7, term: 5, partialTerm: 2,
  score: (result) => {
    const [page, id] = result[0].split("#");
    if (id) [result[0], result[2]] = [page, `#${id}`];
    const object = Boolean(result[3]), chapter = page.startsWith("notebooks/");
    return result[4] + (chapter ? 200 : 0) - (object ? 100 : 0);
  },
};
