"""Data sets of the course: all but MNIST come without a download.

Each function returns a Data: x float32 with one flat sample a row, y int64.  For
a convolution, `x.reshape(-1, 1, 8, 8)` (digits) or `(-1, 1, 28, 28)` (glyphs, MNIST).
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from . import checks
from .sums import mean

FONTS = (  # of those that come with matplotlib: upright, slanted, bold, with and without serifs
    "DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSansMono", "DejaVuSansMono-Bold", "DejaVuSerif",
    "DejaVuSerif-Bold", "DejaVuSerif-Italic", "STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "cmb10", "cmr10",
    "cmss10", "cmtt10",
)
MNIST_MD5 = "0298d579eb1b86163de7723944c7e495"  # of the file, as OpenML states it


class Data(NamedTuple):
    """A data set, split for training and for testing."""

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray


class DataUnavailable(RuntimeError):
    """The data have to be downloaded, and that failed."""


def digits(*, standardized=True, seed=0):
    """1797 handwritten digits of 8 x 8 pixels, which come with scikit-learn: 1400 to train, 397 to test.

    Args:
        standardized: give each pixel mean 0 and variance 1 over the training
            images; a pixel that is constant there becomes 0.  Otherwise pixels
            run from 0 to 1.
        seed: of the shuffle before the split.
    Returns:
        Data: x (N, 64), y (N,) from 0 to 9.
    Source: Alpaydin & Kaynak 1998, Optical Recognition of Handwritten Digits,
        the test part, as in sklearn.datasets.load_digits.
    """
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return _split(x / 16, y, 1400, standardized, np.random.default_rng(seed))


def glyphs(*, train=3000, test=1000, standardized=True, seed=0):
    """Printed digits of 28 x 28 pixels, drawn from the fonts that come with matplotlib.

    Each is turned, slanted, scaled and moved at random and gets some noise, so
    that no two are alike: as large as MNIST's, and about as hard, but made in
    seconds (half a millisecond each) without a download.

    Args:
        train, test: how many images.
        standardized: as for `digits`.
        seed: of all random choices.
    Returns:
        Data: x (N, 784), y (N,) from 0 to 9.
    """
    _require_counts(train, test)
    rng = np.random.default_rng(seed)
    y = np.arange(train + test) % 10
    outlines = _outlines()
    fonts = rng.integers(len(FONTS), size=len(y))
    x = np.stack([_draw(outlines[font][digit], rng) for font, digit in zip(fonts, y, strict=True)])
    x = np.clip(x + rng.normal(0, 0.1, x.shape), 0, 1)
    return _split(x, y, train, standardized, rng)


def mnist(*, standardized=True, cache=None):
    """MNIST: 60,000 handwritten digits of 28 x 28 pixels to train and 10,000 to test, from openml.org.

    The first call downloads 15 MB and keeps them; later calls need no network.

    Args:
        standardized: as for `digits`.
        cache: folder to keep the download in; None for scikit-learn's.
    Returns:
        Data: x (N, 784), y (N,) from 0 to 9.
    Raises:
        DataUnavailable: there is no network, or what came is not the file that
            was asked for.
    Source: LeCun, Cortes & Burges; OpenML data set 554.
    """
    from sklearn.datasets import fetch_openml

    try:  # scikit-learn compares the file with the checksum; ours makes sure that it is still the same file
        found = fetch_openml("mnist_784", version=1, as_frame=False, parser="liac-arff", data_home=cache)
        if found.details["md5_checksum"] != MNIST_MD5:
            raise ValueError(f"openml.org now has a file with checksum {found.details['md5_checksum']}")
    except (OSError, ValueError) as error:
        raise DataUnavailable(
            f"MNIST could not be fetched from openml.org ({type(error).__name__}: {error}). "
            "Run data.mnist() once with a network, after which it is cached, or use data.digits(), "
            "which comes with scikit-learn and needs none."
        ) from error
    x, y = found.data / np.float32(255), found.target.astype(np.int64)
    return _finish(x[:60000], y[:60000], x[60000:], y[60000:], standardized)


def blobs(*, train=500, test=500, classes=3, features=2, spread=1.0, seed=0):
    """Gaussian clouds, one a class, with centres drawn from N(0, 3**2): easy, and linear.

    Args:
        train, test: how many points.
        classes, features: how many clouds, in how many dimensions.
        spread: standard deviation of a cloud.
        seed: of all random choices.
    Returns:
        Data: x (N, features), y (N,).
    """
    _require_counts(train, test)
    checks.count("classes", classes, 1)
    checks.count("features", features, 1)
    checks.not_negative(spread, "spread")
    rng = np.random.default_rng(seed)
    y = rng.integers(classes, size=train + test)
    x = 3 * rng.standard_normal((classes, features))[y] + spread * rng.standard_normal((len(y), features))
    return _finish(x[:train], y[:train], x[train:], y[train:], False)


def spirals(*, train=500, test=500, noise=0.1, seed=0):
    """Two spirals around each other: no line parts them.

    Args:
        train, test: how many points.
        noise: standard deviation around an arm; the arms are 1.6 apart.
        seed: of all random choices.
    Returns:
        Data: x (N, 2), y (N,) of 0 and 1.
    """
    _require_counts(train, test)
    checks.not_negative(noise, "noise")
    rng = np.random.default_rng(seed)
    y = rng.integers(2, size=train + test)
    radius = rng.uniform(0.3, 3.0, len(y))
    angle = 2 * radius + np.pi * y
    x = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1) + noise * rng.standard_normal((len(y), 2))
    return _finish(x[:train], y[:train], x[train:], y[train:], False)


def correlated(*, samples=1000, features=4, condition=100.0, offset=2.0, seed=0):
    """Correlated Gaussian data, off centre, for whitening.

    The variances along the principal axes, which are turned at random, fall
    geometrically from `condition` to 1.

    Args:
        samples, features: N and D.
        condition: the ratio of the largest variance to the smallest.
        offset: mean of every feature.
        seed: of all random choices.
    Returns:
        x, (N, D), float32.
    """
    checks.count("samples", samples)
    checks.count("features", features, 1)
    checks.number("condition", condition)
    if not condition >= 1:
        raise ValueError(f"condition is the largest variance over the smallest, 1 or more; got {condition}")
    rng = np.random.default_rng(seed)
    axes = np.linalg.qr(rng.standard_normal((features, features)))[0]
    std = np.sqrt(np.geomspace(condition, 1, features))
    return (offset + (rng.standard_normal((samples, features)) * std) @ axes.T).astype(np.float32)


def _require_counts(train, test):
    checks.count("train", train)
    checks.count("test", test)


def _split(x, y, train, standardized, rng):
    order = rng.permutation(len(x))
    x, y = x[order], y[order]
    return _finish(x[:train], y[:train], x[train:], y[train:], standardized)


def _finish(x_train, y_train, x_test, y_test, standardized):
    if standardized:
        mu = mean(x_train, (0,))
        var = mean(x_train - mu, (0,), times=x_train - mu)
        scale = np.where(var > 0, 1 / np.sqrt(np.where(var > 0, var, 1)), 0)
        x_train, x_test = ((x - mu) * scale for x in (x_train, x_test))
    x_train, x_test = (x.astype(np.float32, copy=False) for x in (x_train, x_test))
    return Data(x_train, y_train.astype(np.int64), x_test, y_test.astype(np.int64))


def _outlines():
    """Outlines of the ten digits in each font, centred on 0, about 20 pixels high."""
    import matplotlib
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath
    from matplotlib.transforms import Affine2D

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    outlines = []
    for font in FONTS:
        properties = FontProperties(fname=folder / f"{font}.ttf")
        paths = [TextPath((0, 0), str(digit), size=24, prop=properties) for digit in range(10)]
        boxes = [path.get_extents() for path in paths]
        outlines.append([
            Affine2D().translate(-(b.x0 + b.x1) / 2, -(b.y0 + b.y1) / 2).transform_path(path)
            for path, b in zip(paths, boxes, strict=True)
        ])
    return outlines


def _draw(outline, rng):
    """One 28 x 28 image of an outline, turned, slanted, scaled and moved at random, as 784 numbers from 0 to 1."""
    from matplotlib.backends.backend_agg import RendererAgg
    from matplotlib.transforms import Affine2D

    turn, slant = rng.uniform(-15, 15), rng.uniform(-10, 10)
    scale, move = rng.uniform(0.8, 1.15), 14 + rng.uniform(-2.5, 2.5, 2)
    canvas = RendererAgg(28, 28, 72)
    place = Affine2D().rotate_deg(turn).skew_deg(slant, 0).scale(scale).translate(*move)
    canvas.draw_path(canvas.new_gc(), outline, place, (0, 0, 0))
    return np.asarray(canvas.buffer_rgba())[..., 3].ravel() / 255
