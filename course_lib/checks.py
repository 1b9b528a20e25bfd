"""What the layers ask of their input, and the words in which they refuse it.

Both halves of the course call these functions, so that both refuse the same
thing in the same words.  Shapes are tuples of ints; where a type or a name
matters, arrays come as keywords, and may be NumPy's or torch's.
"""

from math import prod

import numpy as np


def array(name, a):
    """`a` as an array of a floating type.  A masked array would lose its mask without a word."""
    if isinstance(a, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array, and its mask would be lost; give the entries that count")
    a = np.asarray(a)
    floating(**{name: a})
    return a


def floating(**arrays):
    """Refuse integers, in which a mean or a gradient would be cut off, and what is longer than the sums; keywords name.

    Sums are in float64, so a long double would come out with the digits of float64 and look as if it had more.
    """
    for name, a in arrays.items():
        if not (np.issubdtype(a.dtype, np.floating) if isinstance(a, np.ndarray) else a.is_floating_point()):
            raise TypeError(f"{name} is {type_name(a.dtype)}; normalization needs a floating type")
        if a.dtype.itemsize > 8:
            raise TypeError(f"{name} is {type_name(a.dtype)}; sums here keep the digits of float64, so give it as that")


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


def gamma_given(gamma):
    """Where the shape of gamma names the axes, there is a gamma."""
    if gamma is None:
        raise TypeError("gamma is None, but its shape says which axes share statistics; ones of that shape do nothing")


def last_axes(shape, gamma_shape):
    """The axes of x that gamma has: the last ones."""
    shape, gamma_shape, depth = tuple(shape), tuple(gamma_shape), len(gamma_shape)
    if not depth or gamma_shape != shape[len(shape) - depth:]:
        raise ValueError(f"x of shape {shape} does not end in the shape of gamma, {gamma_shape}")
    return tuple(range(len(shape) - depth, len(shape)))


def axes_of(shape, axes):
    """The axes, sorted and counted from the first."""
    if isinstance(axes, (int, np.integer)):
        raise TypeError(f"axes is {axes}; it needs a tuple, such as ({axes},)")
    shape, axes = tuple(shape), tuple(axes)
    if not all(-len(shape) <= axis < len(shape) for axis in axes):
        raise ValueError(f"x of shape {shape} has no axes {axes}")
    found = {axis % len(shape) for axis in axes}
    if len(found) < len(axes):
        raise ValueError(f"axes {axes} of x of shape {shape} name an axis twice")
    return tuple(sorted(found))


def groups(groups, channels, name="groups"):
    """The groups are equally large."""
    if not isinstance(groups, (int, np.integer)):
        raise TypeError(f"{name} is {groups!r}; it needs an integer")
    if groups < 1 or channels % groups:
        raise ValueError(f"{name} ({groups}) must divide the number of channels ({channels})")


def statistics(shape, axes):
    """Each slice along `axes` has a variance: more than one value."""
    if prod(shape) and prod([shape[axis] for axis in axes]) == 1:  # a list: torch.compile reads no generator here
        raise ValueError(
            f"x of shape {tuple(shape)} has 1 value per slice along axes {axes}; a variance needs 2 or more")


def samples_to_keep(shape):
    """Running statistics that are means over samples need one: the mean of nothing would make them NaN for good."""
    if not shape[0]:
        raise ValueError(f"x of shape {tuple(shape)} has no sample, and this layer keeps running statistics: skip it")


def eps_fits(eps_shape, shape, axes):
    """An eps that is an array broadcasts to the shape of the statistics."""
    kept = tuple(1 if axis in axes else n for axis, n in enumerate(shape))
    paired = zip(reversed(eps_shape), reversed(kept))
    if len(eps_shape) > len(kept) or not all(n in (1, k) for n, k in paired):
        raise ValueError(f"eps has shape {tuple(eps_shape)}, but the statistics have {kept}")


def number(name, value):
    """A single real number."""
    if not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name} is {value!r}; it needs a number")


def not_negative(value, name="eps"):
    """A number, or the smallest of an array, is 0 or more, and not NaN."""
    if isinstance(value, (np.ndarray, list, tuple)):
        value = np.min(value, initial=0)
    number(name, value)
    if not value >= 0:
        raise ValueError(f"{name} must be 0 or more, got {value}")


def count(name, n, least=0):
    """So many of something."""
    if not isinstance(n, (int, np.integer)) or n < least:
        raise ValueError(f"{name} must be an integer of {least} or more, got {n!r}")


def same_shape(name, shape, original, expected):
    """A gradient has the shape of what it is the gradient of."""
    if shape != expected:
        raise ValueError(f"{name} has shape {shape}, but {original} had {expected}")


def cache(found, kind):
    """What a backward pass gets after the gradient."""
    if not isinstance(found, kind):
        raise TypeError(f"the cache is of type {type(found).__name__}; "
                        "it is the second result of the forward pass, and comes after the gradient")


def window(size, k, alpha, beta):
    """The window of local response norm, and its exponent."""
    for name, value in (("k", k), ("alpha", alpha), ("beta", beta)):
        number(name, value)
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
    if not isinstance(name, str) or name not in known:
        raise ValueError(f"method is {name!r}; choose one of {', '.join(known)}")


def no_overflow(cov_is_finite, largest):
    """The squares of a finite x are finite."""
    if not cov_is_finite and largest < np.inf:
        raise ValueError(f"x holds {largest:.4g}, and squares of that size overflow: divide x by a constant first")


def full_rank(rank, n, d, eps=0.0):
    """A covariance that has an inverse; that of n samples, or where n is None a running one."""
    if rank < d:
        which = f"running covariance of {d}" if n is None else f"covariance of {n} samples with {d}"
        raise ValueError(f"the {which} features has rank {rank}; "
                         f"whitening needs rank {d}: take more samples, or an eps above {eps:g}")


WHITE = 1e-6  # the covariance of whitened rows may differ from what it ought to be by so much


def white(error, smallest, largest, eps):
    """A covariance so near to a singular one that rounding spoils its inverse is refused; NaN is an error as well."""
    if not error <= WHITE:
        raise ValueError(
            f"the covariance is almost singular: its variances run from {smallest:.3g} to {largest:.3g}, and rounding "
            f"would leave the rows {error:.1g} away from white: take more samples, or an eps above {eps:g}"
        )


def no_tie(pairs):
    """PCA divides by differences of variances; `pairs` are the features (i, j) between which there is none."""
    for i, j in pairs:
        raise ValueError(f"principal components {i} and {j} have the same variance: pca has no gradient, zca has one")
