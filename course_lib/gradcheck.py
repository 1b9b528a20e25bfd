"""Is this the gradient?  Central differences along random directions say so."""

import numpy as np

DIRECTIONS, STEP = 8, 1e-5  # the step is for values that differ by about 1; others take it times that


def check_vjp(f, backward, *args, seed=0):
    """Largest relative error of a backward pass, against central differences of its forward pass.

        L(args)  = sum(dy * y)
        numeric  = (L(a + h v) - L(a - h v)) / 2h,   analytic = sum(da * v)
        error    = |numeric - analytic| / max(|numeric|, norm(da), norm(dy) / (1000 max(|a|, 1)))

    for each argument a and several random directions v; h is 1e-5 of the spread
    of a, and both it and max(|a|) are powers of ten.  In float64 a right
    gradient of a smooth function gives about 1e-9, a wrong one seldom less than
    1e-6; where da is 0, norm(dy) gives the scale.  dy is random, because dy = 1
    hides mistakes: all that a normalizer then returns is 0.  For the same reason
    give it data off centre and a random gamma; and an eps that matters (0.1), if
    eps is to be checked.

    Args:
        f: function of the args that returns y and a cache, as the layers of the
            course do; `lambda x: whiten(x, eps=0.1)` fixes an option.
        backward: function of dy and that cache that returns one gradient, or a
            tuple of them, one per argument.
        args: float64 arrays.
        seed: of the directions and of dy.
    Returns:
        the largest error, a float.  NaN, if one occurs, is the largest.
    Raises:
        TypeError: an argument is not float64: differences in float32 have three digits.
        ValueError: backward returns another number of gradients than there are
            arguments, or one of another shape; or y is empty.
    """
    args = [np.asarray(a) for a in args]
    for number, a in enumerate(args):
        if a.dtype != np.float64:
            raise TypeError(f"argument {number} is {a.dtype}; differences need float64")
    rng = np.random.default_rng(seed)
    y, cache = f(*args)
    if not np.size(y):
        raise ValueError(f"y has shape {np.shape(y)}: there is nothing to differentiate")
    dy = rng.standard_normal(y.shape)
    gradients = _gradients(backward(dy, cache), args)
    errors = []
    for number, (a, da) in enumerate(zip(args, gradients, strict=True)):
        spread, largest = _scales(a)
        step, least = STEP * spread, np.linalg.norm(dy) / (1000 * max(largest, 1))
        for _ in range(DIRECTIONS):
            v = rng.standard_normal(a.shape)
            ahead, behind = (f(*args[:number], a + h * v, *args[number + 1:])[0] for h in (step, -step))
            numeric, analytic = np.sum(dy * (ahead - behind)) / (2 * step), np.sum(da * v)
            errors.append(abs(numeric - analytic) / max(abs(numeric), np.linalg.norm(da), least))
    return float(np.max(errors))


def _scales(a):
    """How far the entries of `a` are apart, but no less than rounding allows to tell, and how large the largest is."""
    largest = np.max(np.abs(a), initial=0)
    if not 0 < largest < np.inf:
        return 1.0, 1.0
    spread = max(np.std(a) or largest, 1e-4 * largest)
    return 10.0 ** np.round(np.log10(spread)), 10.0 ** np.floor(np.log10(largest))


def _gradients(found, args):
    found = found if isinstance(found, tuple) else (found,)
    if len(found) != len(args):
        raise ValueError(f"backward returned {len(found)} gradients for {len(args)} arguments")
    for number, (a, da) in enumerate(zip(args, found, strict=True)):
        if np.shape(da) != a.shape:
            raise ValueError(f"argument {number} has shape {a.shape}, but its gradient has {np.shape(da)}")
    return found
