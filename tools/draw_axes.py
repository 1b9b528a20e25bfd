"""Draws book/_static/axes*.svg, the title picture: which entries of x (N, C, H*W) share statistics in each layer.

    python tools/draw_axes.py
"""

from pathlib import Path

STATIC = Path(__file__).resolve().parents[1] / "book/_static"
N, C, S = 3, 4, 3  # samples, channels, positions: all different from what they would be by symmetry
CELL, SKEW = 21, (9.5, -7)  # the side of an entry; how far a sample lies behind the one before it
INK, PLAIN, SHARED, WITHOUT_MEAN = "#39424e", "#e4e8ed", "#3b82c4", "#d97706"

# name, what the shared set is in words, and whether an entry (n, c, s) belongs to the set that is marked
PANELS = (
    ("Batch norm", "one channel, all samples", lambda n, c: c == 0),
    ("Layer norm", "one sample, all channels", lambda n, c: n == 0),
    ("Instance norm", "one sample, one channel", lambda n, c: n == 0 and c == 0),
    ("Group norm", "one sample, C/G channels", lambda n, c: n == 0 and c < 2),
    ("RMS norm", "as layer norm, no mean", lambda n, c: n == 0),
    ("Filter response", "as instance norm, no mean", lambda n, c: n == 0 and c == 0),
)
NO_MEAN = {"RMS norm", "Filter response"}


def shade(color, factor):
    """The colour, darker for the sides of the block that face away from the light."""
    return "#" + "".join(f"{round(int(color[i : i + 2], 16) * factor):02x}" for i in (1, 3, 5))


def face(points, color):
    text = " ".join(f"{x:g},{y:g}" for x, y in points)
    return f'<polygon points="{text}" fill="{color}" stroke="{INK}" stroke-width="1" stroke-linejoin="round"/>'


def block(x, y, shared, color):
    """The visible faces of the block whose front lower left corner is (x, y)."""
    def at(c, s, n):
        return x + c * CELL + n * SKEW[0], y - s * CELL + n * SKEW[1]

    def fill(n, c, factor):
        return shade(color if shared(n, c) else PLAIN, factor)

    out = []
    for c in range(C):
        for s in range(S):
            out.append(face([at(c, s, 0), at(c + 1, s, 0), at(c + 1, s + 1, 0), at(c, s + 1, 0)], fill(0, c, 1.0)))
        for n in range(N):
            out.append(face([at(c, S, n), at(c + 1, S, n), at(c + 1, S, n + 1), at(c, S, n + 1)], fill(n, c, 0.94)))
    for n in range(N):
        for s in range(S):
            corners = [at(C, s, n), at(C, s, n + 1), at(C, s + 1, n + 1), at(C, s + 1, n)]
            out.append(face(corners, fill(n, C - 1, 0.86)))
    return out


def text(x, y, words, *, size, weight=400, anchor="middle"):
    return (f'<text x="{x:g}" y="{y:g}" font-size="{size}" font-weight="{weight}" text-anchor="{anchor}" '
            f'fill="{INK}">{words}</text>')


def picture(columns, *, ground=False):
    """Six panels in so many columns; with three of them the picture is for wide pages, with two for phones."""
    width, height = 200 * columns, 192 * (len(PANELS) // columns)
    out = ['<rect width="100%" height="100%" rx="14" fill="#ffffff"/>'] if ground else []
    for k, (name, words, shared) in enumerate(PANELS):
        x, y = 30 + 200 * (k % columns), 112 + 192 * (k // columns)
        out += block(x + 16, y, shared, WITHOUT_MEAN if name in NO_MEAN else SHARED)
        out += [text(x + 70, y + 42, name, size=18, weight=650), text(x + 70, y + 61, words, size=13.5)]
    # the axes of the block, named once
    out += [text(40, 85, "H·W", size=14, anchor="end"), text(88, 130, "C", size=14), text(150, 116, "N", size=14)]
    body = "\n  ".join(out)
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
            'font-family="Inter, system-ui, sans-serif">\n  '
            "<title>Six blocks of entries; marked are those that share statistics in each layer</title>\n  "
            f"{body}\n</svg>\n")


if __name__ == "__main__":
    (STATIC / "axes.svg").write_text(picture(3), encoding="utf8")
    (STATIC / "axes-narrow.svg").write_text(picture(2), encoding="utf8")
    (STATIC / "axes-on-white.svg").write_text(picture(3, ground=True), encoding="utf8")  # for the README
