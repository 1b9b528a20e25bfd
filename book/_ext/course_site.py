"""What the site of the course needs and the theme has no option for.

- formulas are set at build time (`course_tex`), docstrings become the API page (`course_api`),
  equations, errata, claims and the list of chapters are collected (`course_collect`);
- Markdown becomes asides, captions, numbers and links (`course_text`), and search finds sections (`course_search`);
- a changed package runs every notebook again, as many at once as there are cores;
- the head of a chapter offers Colab, the notebook and the source; the head of a page describes it;
- nothing is loaded that the page does not use (`course_fonts`, `course_styles`), and a content security policy
  keeps it so.
"""

import base64
import hashlib
import html
import os
import re
import shutil
from fnmatch import fnmatch
from functools import partial
from importlib import metadata
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import course_api
import course_collect
import course_fonts
import course_search
import course_styles
import course_tex
import course_text
from docutils import nodes
from jupyter_cache import get_cache
from jupyter_cache.executors import load_executor
from sphinx.errors import ExtensionError
from sphinx.util import logging

LOGGER = logging.getLogger(__name__)
ROOT = Path(__file__).resolve().parents[2]
UNUSED = ("thebe", "toggle", "sphinx-design", "design-tabs", "comments", "pagename", "search_as_you_type")
SCRIPT = re.compile(r"<script(?![^>]*\bsrc=)[^>]*>(.*?)</script>", re.DOTALL)
VIEWPORT = re.compile(r'<meta name="viewport"[^>]*>')
SHORT, DESCRIPTION = 40, 200  # more and at most so many characters has a page's description
DEFERRED = re.compile(r"<script (?!defer)(src=)")
ESSENTIAL = re.compile(r'<section class="[^"]*essential[^"]*" id="([^"]+)"')
WIDE = re.compile(r'<pre\b(?=[ >])|<div class="pst-scrollable-table-container"')
WIDTHS = '"complete"===document.readyState?I():window.addEventListener("load",I)'
THEBE = re.compile(
    r'\s*<script type="text/x-thebe-config">.*?</script>\s*<script>kernelName = [^<]*</script>', re.DOTALL)
IMAGE = re.compile(r'<img (?![^>]*loading=)([^>]*?)src="([^"]*_images/[^"]+\.svg)"')
PLACE = re.compile(r' (?:d|x|y)="[^"]+"|translate\([^)]+\)')
DIGITS = re.compile(r"(\d+\.\d\d)\d+")  # a figure's places need hundredths of a point, not millionths
UNSEEN = re.compile(r"\s*<metadata>.*?</metadata>|\s*<!--.*?-->|(?<=\n)[ \t]+", re.DOTALL)  # notes and indents
NAME = re.compile(r' id="([^"]+)"')


def library_version(name):
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def package_hash():
    """Changes when the package, or a library that its numbers come from, changes."""
    text = hashlib.sha256()
    for path in sorted(path for kind in ("*.py", "*.csv") for path in (ROOT / "course_lib").rglob(kind)):
        text.update(str(path.relative_to(ROOT)).encode() + path.read_bytes())
    for library in ("numpy", "torch", "matplotlib", "scikit-learn", "matplotlib-inline"):
        text.update(library_version(library).encode())
    return text.hexdigest()


def cache_folder(app, config):
    cache = Path(config.nb_execution_cache_path or app.outdir / "../.jupyter_cache")
    return cache if cache.is_absolute() else ROOT / cache


def forget_stale_runs(app, config):
    """The Jupyter cache knows the cells of a notebook, not the package they import: drop it when that changes."""
    config.course_package = package_hash()
    cache = cache_folder(app, config)
    stamp = cache / "course_package"
    if not stamp.exists() or stamp.read_text() != config.course_package:
        shutil.rmtree(cache, ignore_errors=True)
        cache.mkdir(parents=True)
        stamp.write_text(config.course_package)


def run_ahead(app, env, docnames):
    """Run the chapters that the Jupyter cache lacks, side by side: Sphinx, which comes after, runs one at a time.

    A chapter that fails here is left to Sphinx, which runs it again and says where.
    """
    chapters = [env.doc2path(name) for name in docnames if name.startswith("notebooks/")]
    if app.builder.name == "html" and app.config.nb_execution_mode == "cache":
        cache = get_cache(str(cache_folder(app, app.config)))
        for path in chapters:
            cache.add_nb_to_project(path, read_data={"type": "plugin", "name": "myst_nb_md"})
        load_executor("local-parallel", cache, logger=LOGGER.logger).run_and_cache(
            filter_uris=chapters, timeout=app.config.nb_execution_timeout)


def forget_pages(app):
    """Let Sphinx write every page again, which takes seconds: `finish` changes pages and what they share.

    So no page of an earlier build stays behind, be it under another name or from other settings.
    """
    if app.builder.name == "html":
        for page in Path(app.outdir).rglob("*.html"):
            page.unlink()


def page_context(app, pagename, templatename, context, doctree):
    """Drop unused assets, describe the page, and link the notebook of a chapter."""
    for key in ("script_files", "css_files"):
        context[key] = [asset for asset in context[key] if not any(name in asset_text(asset) for name in UNUSED)]
    for sheet in context["css_files"]:
        if not any(fnmatch(str(sheet.filename), f"*{name}") for name in course_styles.SHEETS):
            raise ExtensionError(f"{sheet.filename}: a style sheet that course_styles.SHEETS does not name")
    context["metatags"] = VIEWPORT.sub("", context.get("metatags", ""))  # the theme has one already
    context["course_description"] = description(doctree) if doctree else ""
    context["course_picture"] = urljoin(app.config.html_baseurl, "_static/share.png")
    theme = app.config.html_theme_options
    url, branch = theme.get("repository_url"), theme.get("repository_branch")  # no url: no door that leads nowhere
    text = app.env.doc2path(pagename).endswith(".md") and doctree
    notebook = f"{pagename}.ipynb" if (ROOT / f"{pagename}.ipynb").exists() else None
    context["course_edit"] = f"{url}/edit/{branch}/{pagename}.md" if url and text else None
    context["course_notebook"] = notebook
    context["course_colab"] = None
    if url and notebook:
        repository = url.removeprefix("https://github.com/")
        context["course_colab"] = f"https://colab.research.google.com/github/{repository}/blob/{branch}/{notebook}"


def description(doctree):
    """The first paragraph of a page, not the line above it that says how long it takes, cut to whole sentences."""
    paragraphs = (" ".join(node.astext().split()) for node in doctree.findall(nodes.paragraph))
    words = next((text for text in paragraphs if len(text) > SHORT), "")
    if len(words) <= DESCRIPTION:
        return words
    cut = words[: DESCRIPTION + 1]
    return cut[: cut.rfind(". ") + 1] or f"{cut[: cut.rfind(' ')]} ..."


def asset_text(asset):
    return f"{getattr(asset, 'filename', asset) or ''} {getattr(asset, 'attributes', {}).get('body', '')}".lower()


def policy(text):
    """Everything comes from the site itself; of inline scripts only those that the build wrote, by their hash.

    Style attributes are allowed: KaTeX places the parts of a formula with them.
    """
    digests = {base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in SCRIPT.findall(text)}
    scripts = " ".join(f"'sha256-{digest}'" for digest in sorted(digests))
    rules = (
        "default-src 'self'", f"script-src 'self' {scripts}".strip(), "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data:", "object-src 'none'", "base-uri 'self'", "form-action 'self'",
    )
    return f'<meta http-equiv="Content-Security-Policy" content="{"; ".join(rules)}" />'


def without_widths(script):
    """The theme's script without its question for the width of every box, which lays out the whole page at once.

    course.js asks when a box comes near.
    """
    if WIDTHS not in script:
        raise ExtensionError("pydata-sphinx-theme.js has changed: does it still ask for the width of every box?")
    return script.replace(WIDTHS, "0")


def sized(match, page):
    """A figure that loads when it comes near, and holds its place until then."""
    head = (page.parent / match[2]).resolve().read_text(encoding="utf8")[:2000]
    box = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', head)
    size = f'width="{round(float(box[1]) * 4 / 3)}" height="{round(float(box[2]) * 4 / 3)}" ' if box else ""
    return f'<img loading="lazy" {size}{match[1]}src="{match[2]}"'


HOME = """<!DOCTYPE html>
<html lang="en">
  <head>
    <meta charset="utf-8" />
    <title>{title}</title>
    <meta http-equiv="refresh" content="0; url={page}" />
  </head>
  <body><p><a href="{page}">{title}</a></p></body>
</html>
"""
MISSING = """<!DOCTYPE html>
<html lang="en">
  <head>
    <meta charset="utf-8" />
    <meta name="viewport" content="width=device-width, initial-scale=1" />
    <meta name="robots" content="noindex" />
    <title>There is no such page: {title}</title>
    <style>
      :root {{ color-scheme: light dark; }}
      body {{ font: 1.1rem/1.6 system-ui, sans-serif; max-width: 34rem; margin: 18vh auto 0; padding: 0 1.2rem; }}
      h1 {{ font-size: 1.8rem; line-height: 1.25; }}
      a {{ color: inherit; }}
    </style>
  </head>
  <body>
    <main>
      <h1>There is no page here</h1>
      <p>The address may have a slip in it, or the page has moved.</p>
      <p><a href="{root}">{title}: to the first page</a><br /><a href="{root}search.html">Search the course</a></p>
    </main>
  </body>
</html>
"""


def write_doors(out, config):
    """The first page, the page for wrong addresses, and what search engines ask for.

    A sitemap holds whole addresses, so there is none until `html: baseurl:` in _config.yml has that of the site.
    A server shows 404.html for any address, so nothing in it may depend on where it is.
    """
    title, base = html.escape(config.html_title), config.html_baseurl
    home = HOME.format(title=title, page=f"{config.root_doc}.html")
    (out / "index.html").write_text(home, encoding="utf8")
    (out / "404.html").write_text(MISSING.format(title=title, root=urlsplit(base).path or "/"), encoding="utf8")
    robots = "User-agent: *\nAllow: /\n"
    (out / "sitemap.xml").unlink(missing_ok=True)
    if base:
        pages = sorted(path.relative_to(out).as_posix() for path in out.glob("*/*.html") if path.parent.name[0] != "_")
        entries = "\n".join(f"  <url><loc>{urljoin(base, page)}</loc></url>" for page in pages)
        (out / "sitemap.xml").write_text(
            '<?xml version="1.0" encoding="UTF-8"?>\n<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">\n'
            f"{entries}\n</urlset>\n", encoding="utf8")
        robots += f"Sitemap: {urljoin(base, 'sitemap.xml')}\n"
    (out / "robots.txt").write_text(robots, encoding="utf8")


def mended(text, page):
    """A page as it is served: what the theme writes and no option changes."""
    text = DEFERRED.sub(r"<script defer \1", IMAGE.sub(partial(sized, page=page), THEBE.sub("", text)))
    text = text.replace('data-theme="auto"', 'data-theme="light"', 1)  # for a reader without scripts
    text = WIDE.sub(r'\g<0> tabindex="0"', text)  # course.js takes it from what fits
    text = text.replace('role="doc-biblioentry"', 'role="listitem"')  # what a list may hold
    for section in ESSENTIAL.findall(text):
        text = text.replace(f'nav-link" href="#{section}"', f'nav-link essential" href="#{section}"')
    return text


def lighter(figure):
    """The same picture in fewer bytes: without what nobody sees, and without names that nothing in it calls."""
    text = UNSEEN.sub("", figure)
    called = set(re.findall(r"#([^\s\"')]+)", text))
    text = NAME.sub(lambda name: name[0] if name[1] in called else "", text)
    return PLACE.sub(lambda place: DIGITS.sub(r"\1", place[0]), text)


def finish(app, exception):
    if exception or app.builder.name != "html":
        return
    out = Path(app.outdir)
    static = out / "_static"
    write_doors(out, app.config)
    for macro in static.glob("*webpack-macros.html"):
        macro.unlink()
    for notebook in (ROOT / "notebooks").glob("*.ipynb"):
        (out / "notebooks").mkdir(exist_ok=True)
        shutil.copy(notebook, out / "notebooks" / notebook.name)
    for figure in (out / "_images").glob("*.svg"):
        figure.write_text(lighter(figure.read_text(encoding="utf8")), encoding="utf8")
    script = static / "scripts/pydata-sphinx-theme.js"
    script.write_text(without_widths(script.read_text(encoding="utf8")), encoding="utf8")
    pages = {}
    for page in out.rglob("*.html"):
        text = mended(page.read_text(encoding="utf8"), page)
        pages[page] = text.replace("<head>", f"<head>\n    {policy(text)}", 1)
    sheet = course_styles.bundle(static, pages)
    for page, text in pages.items():
        page.write_text(text.replace(f"_static/{course_styles.SITE}", f"_static/{sheet}"), encoding="utf8")
    course_styles.prune(out, pages)
    course_fonts.slim_all(static, list(pages.values()))
    (out / ".buildinfo").unlink(missing_ok=True)  # tells the next build which pages are old: all of them


def setup(app):
    os.environ["COURSE_SITE"] = "1"  # the kernels inherit both: figures on a transparent ground, in the site's font
    os.environ["COURSE_FONT"] = str(course_fonts.for_figures(Path(app.outdir).parent / "fonts"))
    app.add_config_value("course_package", "", "env")
    for part in (course_tex, course_api, course_collect, course_text, course_search):
        part.setup(app)
    app.connect("config-inited", forget_stale_runs)
    app.connect("builder-inited", forget_pages)
    app.connect("env-before-read-docs", run_ahead)
    app.connect("html-page-context", page_context, priority=900)
    app.connect("build-finished", finish, priority=900)  # after the theme, which writes a style sheet then
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
