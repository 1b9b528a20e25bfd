"""Weight initialization: where a network starts, and the variances that follow from it.

A layer is z = h @ W, h_next = activation(z), with W of shape (fan_in, fan_out):
rows of h are samples.  For a convolution, fan_in counts in-channels times
kernel positions, fan_out out-channels times kernel positions.

Of all initializers:

Args:
    rng: numpy.random.Generator.
    fan_in, fan_out: the width of the layer below and of this one.
Returns:
    W, (fan_in, fan_out).
Raises:
    ValueError: a width is not a positive integer.
"""

from typing import NamedTuple

import numpy as np

from . import checks

ACTIVATIONS = {  # name: (function, derivative)
    "linear": (lambda z: z, np.ones_like),
    "relu": (lambda z: np.maximum(z, 0), lambda z: (z > 0).astype(z.dtype)),
    "tanh": (np.tanh, lambda z: 1 - np.tanh(z) ** 2),
    "sigmoid": (lambda z: (1 + np.tanh(z / 2)) / 2, lambda z: (1 - np.tanh(z / 2) ** 2) / 4),
}


class LayerVariances(NamedTuple):
    """One number per layer, the first layer first."""

    z: np.ndarray  # variance of the pre-activations
    h: np.ndarray  # variance of the activations, which need not have mean 0
    dz: np.ndarray  # mean square of the gradient at the pre-activations


def constant(rng, fan_in, fan_out, *, value=0.0):
    """All weights the same: all units of a layer stay copies of each other.

    Args:
        rng: not used; it makes the signature that of the others.
        value: of every weight.
    """
    _require_fans(fan_in, fan_out)
    return np.full((fan_in, fan_out), float(value))


def normal(rng, fan_in, fan_out, *, std):
    """W ~ N(0, std**2), whatever the width.

    Args:
        std: standard deviation of a weight.
    """
    _require_fans(fan_in, fan_out)
    return rng.normal(0.0, std, (fan_in, fan_out))


def lecun_normal(rng, fan_in, fan_out):
    """W ~ N(0, 1 / fan_in): a linear layer keeps the variance on the way forward.

    Source: LeCun, Bottou, Orr & Müller 1998.
    """
    _require_fans(fan_in, fan_out)
    return rng.normal(0.0, np.sqrt(1 / fan_in), (fan_in, fan_out))


def xavier_normal(rng, fan_in, fan_out, *, gain=1.0):
    """W ~ N(0, gain**2 * 2 / (fan_in + fan_out)): a compromise between forward and backward.

    Args:
        gain: a factor that makes up for the activation, such as 5/3 for tanh in torch.
    Source: Glorot & Bengio 2010, with a normal law.
    """
    _require_fans(fan_in, fan_out)
    return rng.normal(0.0, gain * np.sqrt(2 / (fan_in + fan_out)), (fan_in, fan_out))


def xavier_uniform(rng, fan_in, fan_out, *, gain=1.0):
    """W ~ U(-a, a), a = gain * sqrt(6 / (fan_in + fan_out)): the variance of `xavier_normal`.

    Args:
        gain: a factor that makes up for the activation, such as 5/3 for tanh in torch.
    Source: Glorot & Bengio 2010, Eq. 16.
    """
    _require_fans(fan_in, fan_out)
    bound = gain * np.sqrt(6 / (fan_in + fan_out))
    return rng.uniform(-bound, bound, (fan_in, fan_out))


def he_normal(rng, fan_in, fan_out, *, negative_slope=0.0):
    """W ~ N(0, 2 / ((1 + a**2) * fan_in)): makes up for the half that a ReLU throws away.

    Args:
        negative_slope: a, that of a leaky ReLU.
    Source: He, Zhang, Ren & Sun 2015, section 2.2.
    """
    _require_fans(fan_in, fan_out)
    return rng.normal(0.0, np.sqrt(2 / ((1 + negative_slope**2) * fan_in)), (fan_in, fan_out))


def he_uniform(rng, fan_in, fan_out, *, negative_slope=0.0):
    """W ~ U(-b, b), b = sqrt(6 / ((1 + a**2) * fan_in)): the variance of `he_normal`.

    Args:
        negative_slope: a, that of a leaky ReLU.
    Source: He, Zhang, Ren & Sun 2015, section 2.2, with a uniform law.
    """
    _require_fans(fan_in, fan_out)
    bound = np.sqrt(6 / ((1 + negative_slope**2) * fan_in))
    return rng.uniform(-bound, bound, (fan_in, fan_out))


def orthogonal(rng, fan_in, fan_out, *, gain=1.0):
    """A random orthogonal matrix times gain: all its singular values are equal.

    Where fan_in and fan_out differ, the shorter side is orthonormal: columns
    if fan_out is smaller, else rows.

    Args:
        gain: all singular values.
    Source: Saxe, McClelland & Ganguli 2014.
    """
    _require_fans(fan_in, fan_out)
    q, r = np.linalg.qr(rng.standard_normal((max(fan_in, fan_out), min(fan_in, fan_out))))
    q *= np.sign(np.diag(r))  # without it, QR's choice of signs would make some rotations likelier than others
    return gain * (q if fan_in >= fan_out else q.T)


def lsuv(weights, x, activation):
    """Scale each layer so that its pre-activations have variance 1 on a batch: initialize, look, correct.

        for each layer:   z = h W,   W <- W / std(z),   h <- activation(z / std(z))

    The paper repeats the step until the variance is within 0.1 of 1.  A layer
    without bias is linear in W, so here one step reaches 1.

    Args:
        weights: list of (fan_in, fan_out); the paper starts from `orthogonal`.
        x: (N, fan_in of the first), floating: a batch of data.
        activation: a key of ACTIVATIONS.
    Returns:
        the new weights, a list.
    Raises:
        ValueError: the activation is unknown, or a layer's pre-activations are constant.
    Source: Mishkin & Matas 2016.
    """
    function, _ = _activation(activation)
    scaled, h = [], x
    for number, w in enumerate(weights, start=1):
        z = h @ w
        std = z.std()
        if std == 0:
            raise ValueError(f"layer {number} has pre-activations that are all {z.flat[0]:.4g}: no scale helps")
        scaled.append(w / std)
        h = function(z / std)
    return scaled


def predicted_variances(widths, weight_vars, activation, *, x_mean_square=1.0):
    """Variance per layer of a wide random network, forward and backward, without running it.

        forward    q_1 = n_0 v_1 mean(x**2),   q_l = n_(l-1) v_l E[f(z)**2],    z ~ N(0, q_(l-1))
        backward   g_L = E[f'(z)**2],          g_l = n_(l+1) v_(l+1) g_(l+1) E[f'(z)**2],   z ~ N(0, q_l)

    q_l is the variance of z in layer l, g_l the mean square of dL/dz there, when
    dL/dh at the top has mean square 1; n are widths, v variances of weights, f
    is the activation.  Exact as the widths grow, for weights that are
    independent, with mean 0.  The gradient is taken as independent of the
    forward weights.

    Args:
        widths: (n_0, n_1, ..., n_L), n_0 that of the data.
        weight_vars: (v_1, ..., v_L).
        activation: a key of ACTIVATIONS.
        x_mean_square: of the data: the variance, if their mean is 0.
    Returns:
        LayerVariances of predictions.
    Raises:
        ValueError: the activation is unknown, there is not one variance per
            layer, or one is negative.
    Source: He et al. 2015, section 2.2, for ReLU; Poole et al. 2016 and
        Schoenholz et al. 2017 for any activation.
    """
    function, derivative = _activation(activation)
    for number, v in enumerate(weight_vars, start=1):
        checks.not_negative(v, f"the variance of the weights of layer {number}")
    if len(weight_vars) != len(widths) - 1:
        raise ValueError(f"{len(widths)} widths make {len(widths) - 1} layers, not {len(weight_vars)}")
    q, h_var, slope, mean_square = [], [], [], x_mean_square
    for fan_in, v in zip(widths[:-1], weight_vars, strict=True):
        q.append(fan_in * v * mean_square)
        mean_square = _expect(lambda z: function(z) ** 2, q[-1])
        h_var.append(mean_square - _expect(function, q[-1]) ** 2)
        slope.append(_expect(lambda z: derivative(z) ** 2, q[-1]))
    g = [slope[-1]]
    for layer in reversed(range(len(slope) - 1)):
        g.insert(0, widths[layer + 2] * weight_vars[layer + 1] * g[0] * slope[layer])
    return LayerVariances(np.array(q), np.array(h_var), np.array(g))


def measured_variances(weights, x, activation, dh):
    """Variance per layer of a given network on given data, forward and backward.

    Args:
        weights: list of (fan_in, fan_out).
        x: (N, fan_in of the first), floating.
        activation: a key of ACTIVATIONS.
        dh: (N, fan_out of the last), dL/dh at the top.
    Returns:
        LayerVariances, to be compared with `predicted_variances`.
    Raises:
        ValueError: the activation is unknown.
    """
    function, derivative = _activation(activation)
    zs, h_var, h = [], [], x
    for w in weights:
        zs.append(h @ w)
        h = function(zs[-1])
        h_var.append(h.var())
    g = []
    for w, z in zip(reversed(weights), reversed(zs), strict=True):
        dz = dh * derivative(z)
        g.insert(0, np.mean(dz**2))
        dh = dz @ w.T
    return LayerVariances(np.array([z.var() for z in zs]), np.array(h_var), np.array(g))


def _expect(function, variance):
    """E[function(z)] for z ~ N(0, variance): each side of 0 by itself, because ReLU has a kink there."""
    nodes, weights = np.polynomial.legendre.leggauss(100)
    side = 5 * (nodes + 1)  # from 0 to 10 standard deviations
    z, density = np.concatenate([side, -side]), np.tile(weights * np.exp(-(side**2) / 2), 2)
    return density @ function(np.sqrt(variance) * z) / density.sum()


def _activation(name):
    if name not in ACTIVATIONS:
        raise ValueError(f"activation is {name!r}; choose one of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]


def _require_fans(fan_in, fan_out):
    if not all(isinstance(fan, (int, np.integer)) and fan >= 1 for fan in (fan_in, fan_out)):
        raise ValueError(f"fan_in and fan_out are widths, positive integers; got {fan_in} and {fan_out}")
