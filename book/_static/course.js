// What markup alone cannot do.  Deferred: it runs when the page is there, before DOMContentLoaded.
{
  const root = document.documentElement;
  const each = (selector, change) => document.querySelectorAll(selector).forEach(change);

  // Names for assistive technology that agree with the visible text.
  each("details.hide > summary[aria-label], .search-button-field[aria-label]", (e) => e.removeAttribute("aria-label"));
  each(".search-button__kbd-shortcut, button[aria-label] > i", (e) => {
    e.setAttribute("aria-hidden", "true");
    e.removeAttribute("title");
  });
  each(".sidebar-primary-item:has(.navbar-brand)", (e) => {
    e.setAttribute("role", "navigation");
    e.setAttribute("aria-label", "Home");
  });

  // What is wider than its box can be scrolled by keyboard.  An observer is told of a box when its section is laid
  // out; to ask for the width of every box would lay out the whole page at once.
  const boxes = new ResizeObserver((seen) => {
    for (const { target } of seen) {
      if (target.scrollWidth > target.clientWidth) target.tabIndex = 0;
      else target.removeAttribute("tabindex");
    }
  });
  each(".bd-article :is(pre, div.math, .cell_output, .pst-scrollable-table-container)", (e) => boxes.observe(e));

  // Paper is white, whatever the screen is.
  let theme;
  addEventListener("beforeprint", () => {
    theme = root.dataset.theme;
    root.dataset.theme = "light";
  });
  addEventListener("afterprint", () => {
    root.dataset.theme = theme;
  });
}
