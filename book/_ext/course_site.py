"""What the site of the course needs and the theme has no option for.

- formulas are set at build time (`course_tex`), docstrings become the API page (`course_api`),
  equations, errata, claims and the list of chapters are collected (`course_collect`);
- a changed package runs every notebook again;
- a block quote that opens with a bold word is a note, and says of which kind;
- the head of a chapter offers Colab, the notebook and the source;
- nothing is loaded that the page does not use (`course_fonts`), and a content security policy keeps it so.
"""

import base64
import hashlib
import html
import os
import re
import shutil
from functools import partial
from importlib import metadata
from pathlib import Path

import course_api
import course_collect
import course_fonts
import course_tex
from docutils import nodes

ROOT = Path(__file__).resolve().parents[2]
UNUSED = ("thebe", "toggle", "sphinx-design", "design-tabs", "comments")  # assets of extensions that no page uses
ASIDES = ("note", "from the notes", "definition", "proposition", "predict", "disputed")
SCRIPT = re.compile(r"<script(?![^>]*\bsrc=)[^>]*>(.*?)</script>", re.DOTALL)
ICON_SCRIPT = re.compile(r'\s*<!-- So that users can add custom icons -->\s*<script [^>]*fontawesome.js[^>]*></script>')
THEBE = re.compile(
    r'\s*<script type="text/x-thebe-config">.*?</script>\s*<script>kernelName = [^<]*</script>', re.DOTALL)
IMAGE = re.compile(r'<img (?![^>]*loading=)([^>]*?)src="([^"]*_images/[^"]+\.svg)"')
PATH = re.compile(r' d="[^"]+"')
DIGITS = re.compile(r"(\d+\.\d\d)\d+")  # a figure's paths need hundredths of a point, not millionths


def library_version(name):
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def package_hash():
    """Changes when the package, or a library that its numbers come from, changes."""
    text = hashlib.sha256()
    for path in sorted((ROOT / "course_lib").rglob("*.py")):
        text.update(str(path.relative_to(ROOT)).encode() + path.read_bytes())
    for library in ("numpy", "torch", "matplotlib", "scikit-learn", "matplotlib-inline"):
        text.update(library_version(library).encode())
    return text.hexdigest()


def forget_stale_runs(app, config):
    """The Jupyter cache knows the cells of a notebook, not the package they import: drop it when that changes."""
    config.course_package = package_hash()
    cache = Path(config.nb_execution_cache_path or app.outdir / "../.jupyter_cache")
    cache = cache if cache.is_absolute() else ROOT / cache
    stamp = cache / "course_package"
    if not stamp.exists() or stamp.read_text() != config.course_package:
        shutil.rmtree(cache, ignore_errors=True)
        cache.mkdir(parents=True)
        stamp.write_text(config.course_package)


def mark_asides(app, doctree):
    """**Note.** at the head of a block quote makes it an aside of the kind note."""
    for quote in doctree.findall(nodes.block_quote):
        first = next((node for node in quote.findall(nodes.Text) if node.strip()), None)
        if first is not None and isinstance(first.parent, nodes.strong):
            kind = next((kind for kind in ASIDES if first.lower().startswith(kind)), "note")
            quote["classes"] += ["aside", f"aside-{kind.replace(' ', '-')}"]


def page_context(app, pagename, templatename, context, doctree):
    """Drop unused assets, and link the notebook of a chapter."""
    for key in ("script_files", "css_files"):
        context[key] = [asset for asset in context[key] if not any(name in asset_text(asset) for name in UNUSED)]
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


def finish(app, exception):
    if exception or app.builder.name != "html":
        return
    out = Path(app.outdir)
    home = HOME.format(title=html.escape(app.config.html_title), page=f"{app.config.root_doc}.html")
    (out / "index.html").write_text(home, encoding="utf8")
    for macro in (out / "_static").glob("*webpack-macros.html"):
        macro.unlink()
    for notebook in (ROOT / "notebooks").glob("*.ipynb"):
        (out / "notebooks").mkdir(exist_ok=True)
        shutil.copy(notebook, out / "notebooks" / notebook.name)
    for figure in (out / "_images").glob("*.svg"):
        text = figure.read_text(encoding="utf8")
        figure.write_text(PATH.sub(lambda path: DIGITS.sub(r"\1", path[0]), text), encoding="utf8")
    for page in out.rglob("*.html"):
        text = page.read_text(encoding="utf8")
        if "Content-Security-Policy" in text:  # an earlier build wrote and finished it
            continue
        text = IMAGE.sub(partial(sized, page=page), THEBE.sub("", ICON_SCRIPT.sub("", text)))
        page.write_text(text.replace("<head>", f"<head>\n    {policy(text)}", 1), encoding="utf8")
    course_fonts.slim_all(out / "_static", [page.read_text(encoding="utf8") for page in out.rglob("*.html")])


def setup(app):
    os.environ["COURSE_SITE"] = "1"  # the kernels inherit it: figures on a transparent ground
    app.add_config_value("course_package", "", "env")
    course_tex.setup(app)
    course_api.setup(app)
    course_collect.setup(app)
    app.connect("config-inited", forget_stale_runs)
    app.connect("doctree-read", mark_asides)
    app.connect("html-page-context", page_context, priority=900)
    app.connect("build-finished", finish)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
