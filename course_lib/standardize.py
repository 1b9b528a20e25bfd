"""START HERE: the one operation behind every normalization layer of the course.

Pick the axes whose entries share statistics, remove their mean, divide by their
standard deviation.  A layer is a choice of axes; `norms.py` chooses.
"""

from typing import NamedTuple

import numpy as np

from . import checks
from .sums import centered, mean, repeated, short_buffers, widen


class StandardizeCache(NamedTuple):
    """What the backward pass needs: one array as large as x, and one small one."""

    x_hat: np.ndarray  # the shape of x
    inv_std: np.ndarray  # the shape of x with every reduced axis set to 1
    axes: tuple[int, ...]
    center: bool


def standardize(x, axes, *, center=True, eps=1e-5):
    """Give each slice of `x` along `axes` mean 0 and mean square 1.

        mu      = mean(x)
        inv_std = 1 / sqrt(mean((x - mu)**2) + eps)
        x_hat   = (x - mu) * inv_std

    Means divide by the count m (biased), never by m - 1.  The mean is removed
    twice: a float32 mean near 10,000 is rounded by up to 0.0005, and the second
    pass removes what the first one left.

    Args:
        x: floating array of any shape; float16 is computed in float32.  Sums are
            in float64, so nothing longer is taken: long doubles would lose digits.
        axes: tuple of the axes that share one mean and one variance.
        center: True for batch, layer, instance and group norm; False, which
            sets mu = 0, for RMS norm and filter response norm.
        eps: added to the variance, inside the square root: a number, or an
            array that broadcasts to the shape of the statistics.  With eps = 0
            the gradient identities are exact, and a constant slice gives NaN.
            Where the squares overflow, in float32 from 1e19 on, x_hat is 0;
            where they vanish, below 1e-19, it has lost digits if eps is 0.
    Returns:
        x_hat with the shape and type of x, and the cache for
        `standardize_backward`.  x_hat is read-only where the cache holds it: a
        change in place would change the gradient.
    Raises:
        TypeError: x is not of a floating type, longer than float64, or a masked array.
        ValueError: eps is negative or does not fit, or an axis is not one of x.
    Source: Ioffe & Szegedy 2015, Algorithm 1; Wu & He 2018, Eq. 1 and 2.
    """
    x = checks.array("x", x)
    axes = checks.axes_of(x.shape, axes)
    checks.eps_fits(np.shape(eps), x.shape, axes)
    checks.not_negative(eps)
    wide = widen(x)
    with short_buffers():
        x_centered = centered(wide, axes)[0] if center else wide
        var = mean(x_centered, axes, times=x_centered)
        inv_std = 1 / np.sqrt(var + eps, dtype=wide.dtype)
        x_hat = np.multiply(x_centered, repeated(inv_std, wide), out=x_centered if center else None)
    x_hat.flags.writeable = False
    return x_hat.astype(x.dtype, copy=False), StandardizeCache(x_hat, inv_std, axes, center)


def standardize_backward(dx_hat, cache):
    """Gradient of a loss with respect to the input of `standardize`.

        dx = inv_std * (dx_hat - mean(dx_hat) - x_hat * mean(dx_hat * x_hat))

    Shifting or stretching a slice leaves x_hat as it was, so no gradient may
    point along 1 or along x_hat: both parts are projected out.  Without
    centring only the second is.  The formula is exact for every eps.

    Args:
        dx_hat: dL/dx_hat, the shape of x.
        cache: second result of `standardize`.
    Returns:
        dx = dL/dx, the shape and type of dx_hat.
    Raises:
        TypeError: dx_hat is not of a floating type.
        ValueError: dx_hat has another shape than x.
    Source: Ioffe & Szegedy 2015, section 3: their chain-rule lines, put together.
    """
    checks.cache(cache, StandardizeCache)
    x_hat, inv_std, axes, center = cache
    dx_hat = checks.array("dx_hat", dx_hat)
    checks.same_shape("dx_hat", dx_hat.shape, "x_hat", x_hat.shape)
    wide = dx_hat.astype(x_hat.dtype, copy=False)
    with short_buffers():
        dx = x_hat * repeated(-mean(wide, axes, times=x_hat), x_hat)
        dx += wide
        if center:
            dx -= repeated(mean(wide, axes), dx)
        dx *= repeated(inv_std, dx)
    return dx.astype(dx_hat.dtype, copy=False)
