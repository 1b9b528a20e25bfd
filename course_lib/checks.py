"""What the layers ask of their input, and the words in which they refuse it.

Both halves of the course call these functions, so that both refuse the same
thing in the same words.  Shapes are tuples of ints; where a type or a name
matters, arrays come as keywords, and may be NumPy's or torch's.
"""

from math import prod

import numpy as np


def floating(**arrays):
    """Refuse integers, in which a mean or a gradient would be cut off; the keywords name the arrays."""
    for name, a in arrays.items():
        if not (np.issubdtype(a.dtype, np.floating) if isinstance(a, np.ndarray) else a.is_floating_point()):
            raise TypeError(f"{name} is {type_name(a.dtype)}; normalization needs a floating type")


def type_name(dtype):
    """The name that both libraries share, such as float32."""
    return str(dtype).removeprefix("torch.")


def channels(shape, name="x"):
    """A sample axis and a channel axis; for every layer with parameters of shape (C,)."""
    if len(shape) < 2:
        raise ValueError(f"{name} has shape {tuple(shape)}; it needs a sample axis and a channel axis, (N, C, *S)")


def parameters(shape, axes, **arrays):
    """gamma, beta and the like are floating, and have the `axes` of x, whose shape is given; None is no parameter."""
    arrays = {name: a for name, a in arrays.items() if a is not None}
    floating(**arrays)
    expected = tuple(shape[axis] for axis in axes)
    has = f"has {shape[1]} channels" if axes == (1,) else f"ends in {expected}"
    for name, a in arrays.items():
        if tuple(a.shape) != expected:
            raise ValueError(f"x {has}; {name} has shape {tuple(a.shape)}, not {expected}")


def last_axes(shape, gamma_shape):
    """The axes of x that gamma has: the last ones."""
    shape, gamma_shape, depth = tuple(shape), tuple(gamma_shape), len(gamma_shape)
    if not depth or gamma_shape != shape[len(shape) - depth:]:
        raise ValueError(f"x of shape {shape} does not end in the shape of gamma, {gamma_shape}")
    return tuple(range(len(shape) - depth, len(shape)))


def axes_of(shape, axes):
    """The axes, sorted and counted from the first."""
    shape, axes = tuple(shape), tuple(axes)
    if not all(-len(shape) <= axis < len(shape) for axis in axes):
        raise ValueError(f"x of shape {shape} has no axes {axes}")
    found = {axis % len(shape) for axis in axes}
    if len(found) < len(axes):
        raise ValueError(f"axes {axes} of x of shape {shape} name an axis twice")
    return tuple(sorted(found))


def groups(groups, channels, name="groups"):
    """The groups are equally large."""
    if groups < 1 or channels % groups:
        raise ValueError(f"{name} ({groups}) must divide the number of channels ({channels})")


def statistics(shape, axes):
    """Each slice along `axes` has a variance: more than one value."""
    if prod(shape) and prod([shape[axis] for axis in axes]) == 1:  # a list: torch.compile reads no generator here
        raise ValueError(
            f"x of shape {tuple(shape)} has 1 value per slice along axes {axes}; a variance needs 2 or more")


def eps_fits(eps_shape, shape, axes):
    """An eps that is an array broadcasts to the shape of the statistics."""
    kept = tuple(1 if axis in axes else n for axis, n in enumerate(shape))
    paired = zip(reversed(eps_shape), reversed(kept))
    if len(eps_shape) > len(kept) or not all(n in (1, k) for n, k in paired):
        raise ValueError(f"eps has shape {tuple(eps_shape)}, but the statistics have {kept}")


def not_negative(eps):
    """eps is 0 or more, and not NaN."""
    if not eps >= 0:
        raise ValueError(f"eps must be 0 or more, got {eps}")


def same_shape(name, shape, original, expected):
    """A gradient has the shape of what it is the gradient of."""
    if shape != expected:
        raise ValueError(f"{name} has shape {shape}, but {original} had {expected}")


def window(size, k, alpha):
    """The window of local response norm."""
    if not isinstance(size, (int, np.integer)) or size < 1:
        raise ValueError(f"size is the number of channels in the window, an integer of 1 or more; got {size}")
    if not (k >= 0 and alpha >= 0):
        raise ValueError(f"k and alpha must be 0 or more, got k = {k} and alpha = {alpha}")


def samples(shape):
    """Rows to whiten, of which a covariance can be had."""
    if len(shape) != 2 or shape[1] == 0:
        raise ValueError(f"x has shape {tuple(shape)}; whitening needs rows of samples, (N, D)")
    if shape[0] == 1:
        raise ValueError(f"x of shape {tuple(shape)} has 1 sample; a covariance needs 2 or more")


def method(name, known):
    """A method of whitening that there is."""
    if name not in known:
        raise ValueError(f"method is {name!r}; choose one of {', '.join(known)}")


def full_rank(rank, n, d):
    """A covariance that has an inverse."""
    if rank < d:
        raise ValueError(
            f"the covariance of {n} samples with {d} features has rank {rank}; "
            f"whitening needs rank {d}: take more samples, or an eps above 0"
        )


def no_tie(pairs):
    """PCA divides by differences of variances; `pairs` are the features (i, j) between which there is none."""
    for i, j in pairs:
        raise ValueError(f"principal components {i} and {j} have the same variance: pca has no gradient, zca has one")
