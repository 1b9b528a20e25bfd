"""Draws the title picture: which entries share statistics in each layer, for images and for tokens.

    python tools/draw_axes.py

Writes book/_static/axes*.svg.  The picture for sharing, share.png (1200 x 630), is the wide one on white in a browser:

    python tools/draw_axes.py share.html && chromium --headless --window-size=1200,630 --screenshot=share.png share.html
"""

import sys
from pathlib import Path

from fontTools.pens.svgPathPen import SVGPathPen
from fontTools.ttLib import TTFont
from fontTools.varLib import instancer

STATIC = Path(__file__).resolve().parents[1] / "book/_static"
FONT = STATIC / "fonts/inter-latin-wght-normal.woff2"
N, C, S = 3, 4, 3  # samples, channels, positions: all different from what they would be by symmetry
CELL, SKEW = 21, (9.5, -7)  # the side of an entry; how far a sample lies behind the one before it
PANEL, HEAD = (200, 176), 46  # the size of a panel; the height of a heading
INK, PLAIN, SHARED, WITHOUT_MEAN = "#39424e", "#e4e8ed", "#3b82c4", "#d97706"

# heading, names of the axes (across, up, behind), and the panels: name, what the shared set is in words, the colour,
# and whether an entry (n, c, s) belongs to the set that is marked
ROWS = (
    ("Images (N, C, H, W)", ("C", "H·W", "N"), (
        ("Batch norm", "one channel, all samples", SHARED, lambda n, c, s: c == 0),
        ("Layer norm", "one sample, all channels", SHARED, lambda n, c, s: n == 0),
        ("Instance norm", "one sample, one channel", SHARED, lambda n, c, s: n == 0 and c == 0),
        ("Group norm", "one sample, some channels", SHARED, lambda n, c, s: n == 0 and c < 2),
    )),
    ("Tokens (B, T, D)", ("D", "T", "B"), (
        ("Layer norm", "one token", SHARED, lambda n, c, s: n == 0 and s == S - 1),
        ("RMS norm", "one token, no mean", WITHOUT_MEAN, lambda n, c, s: n == 0 and s == S - 1),
        ("Batch norm", "one feature, all tokens", SHARED, lambda n, c, s: c == 0),
    )),
)


def shade(color, factor):
    """The colour, darker for the sides of the block that face away from the light."""
    return "#" + "".join(f"{round(int(color[i : i + 2], 16) * factor):02x}" for i in (1, 3, 5))


def face(points, color):
    text = " ".join(f"{x:g},{y:g}" for x, y in points)
    return f'<polygon points="{text}" fill="{color}"/>'


def block(x, y, shared, color):
    """The visible faces of the block whose front lower left corner is (x, y)."""
    def at(c, s, n):
        return x + c * CELL + n * SKEW[0], y - s * CELL + n * SKEW[1]

    def fill(n, c, s, factor):
        return shade(color if shared(n, c, s) else PLAIN, factor)

    out = []
    for c in range(C):
        for s in range(S):
            out.append(face([at(c, s, 0), at(c + 1, s, 0), at(c + 1, s + 1, 0), at(c, s + 1, 0)], fill(0, c, s, 1.0)))
        for n in range(N):
            top = [at(c, S, n), at(c + 1, S, n), at(c + 1, S, n + 1), at(c, S, n + 1)]
            out.append(face(top, fill(n, c, S - 1, 0.94)))
    for n in range(N):
        for s in range(S):
            corners = [at(C, s, n), at(C, s, n + 1), at(C, s + 1, n + 1), at(C, s + 1, n)]
            out.append(face(corners, fill(n, C - 1, s, 0.86)))
    return out


class Letters:
    """Words as outlines of the site's font: a picture cannot load it.  Each letter is drawn once and then used."""

    def __init__(self):
        self.fonts = {weight: instancer.instantiateVariableFont(TTFont(FONT), {"wght": weight})
                      for weight in (400, 650)}
        self.drawn = {}

    def words(self, x, y, words, *, size, weight=400, anchor="middle"):
        font = self.fonts[weight]
        glyphs, names, at, out = font.getGlyphSet(), font.getBestCmap(), 0, []
        for letter in words:
            name = names[ord(letter)]
            if (name, weight) not in self.drawn:
                pen = SVGPathPen(glyphs, ntos=lambda value: f"{value:.0f}")
                glyphs[name].draw(pen)
                self.drawn[name, weight] = f'<path id="{name}{weight}" d="{pen.getCommands()}"/>'
            if letter != " ":
                out.append(f'<use href="#{name}{weight}" x="{at:.0f}"/>')
            at += glyphs[name].width
        scale = size / font["head"].unitsPerEm
        x -= at * scale * {"start": 0, "middle": 0.5, "end": 1}[anchor]
        return f'<g transform="translate({x:.1f} {y:g}) scale({scale:.5f} -{scale:.5f})">{"".join(out)}</g>'


def picture(columns, *, ground=False):
    """The panels in so many columns: with four of them the picture is for wide pages, with two for phones."""
    letters, blocks, words, top = Letters(), [], [], 0
    for heading, (across, up, behind), panels in ROWS:
        words.append(letters.words(8, top + 30, heading, size=16, weight=650, anchor="start"))
        top += HEAD
        for k, (name, text, color, shared) in enumerate(panels):
            x, y = 36 + PANEL[0] * (k % columns), top + 96 + PANEL[1] * (k // columns)
            blocks += block(x + 10, y, shared, color)
            words += [letters.words(x + 64, y + 40, name, size=18, weight=650),
                      letters.words(x + 64, y + 60, text, size=14)]
            if k == 0:  # the axes, named once a row
                words += [letters.words(x + 3, y - 27, up, size=14, anchor="end"),
                          letters.words(x + 52, y + 17, across, size=14),
                          letters.words(x + 115, y + 4, behind, size=14)]
        top += PANEL[1] * -(-len(panels) // columns)
    width, height = PANEL[0] * columns, top
    back = '<rect width="100%" height="100%" rx="14" fill="#ffffff"/>' if ground else ""
    parts = ("\n    ".join(part) for part in (letters.drawn.values(), blocks, words))
    return """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {w} {h}" width="{w}" height="{h}">
  <title>Seven blocks of entries; marked are those that share statistics in each layer</title>
  <defs>
    {}
  </defs>
  {back}
  <g stroke="{ink}" stroke-width="1" stroke-linejoin="round">
    {}
  </g>
  <g fill="{ink}">
    {}
  </g>
</svg>
""".format(*parts, w=width, h=height, back=back, ink=INK)


def share():
    """A page of 1200 x 630 with the title and the picture."""
    return f"""<!DOCTYPE html><meta charset="utf-8">
<style>
@font-face {{ font-family: Inter; font-weight: 100 900; src: url({FONT.as_uri()}); }}
body {{ margin: 0; width: 1200px; height: 630px; background: #fff; text-align: center; }}
h1 {{ font: 650 56px Inter; color: #141a23; letter-spacing: -.02em; margin: 0; padding: 34px 0 10px; }}
svg {{ width: 890px; height: auto; }}
</style>
<h1>Normalization in Deep Learning</h1>{picture(4)}"""



if __name__ == "__main__":
    if sys.argv[1:]:
        Path(sys.argv[1]).write_text(share(), encoding="utf8")
    else:
        (STATIC / "axes.svg").write_text(picture(4), encoding="utf8")
        (STATIC / "axes-narrow.svg").write_text(picture(2), encoding="utf8")
        (STATIC / "axes-on-white.svg").write_text(picture(4, ground=True), encoding="utf8")  # for the README
