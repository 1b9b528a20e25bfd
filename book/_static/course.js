// Names for assistive technology that agree with the visible text, and tables that can be scrolled by keyboard.
document.addEventListener("DOMContentLoaded", () => {
  const each = (selector, change) => document.querySelectorAll(selector).forEach(change);
  each("details.hide > summary[aria-label], .search-button-field[aria-label]", (e) => e.removeAttribute("aria-label"));
  each(".search-button__kbd-shortcut, button[aria-label] > i", (e) => {
    e.setAttribute("aria-hidden", "true");
    e.removeAttribute("title");
  });
  each(".pst-scrollable-table-container", (box) => {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
  });
  each(".sidebar-primary-item:has(.navbar-brand)", (e) => {
    e.setAttribute("role", "navigation");
    e.setAttribute("aria-label", "Home");
  });
});
