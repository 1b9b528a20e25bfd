"""Batch norm at inference: fixed statistics, where they come from, where they can go.

In training a batch normalizes itself; at inference one sample must give the
same answer whatever else is in its batch, so the mean and the variance have to
come from somewhere else.  Two collectors, one interface:

    collector          weight of the newest of t batches   use
    PopulationStats    1 / t                               after training, weights frozen
    EMA                a constant, such as 0.1             while training, weights moving
"""

import numpy as np

from . import checks
from .sums import centered, short_buffers, total, widen


class _RunningStats:
    """Mean and variance per channel, each batch blended into those before it."""

    def __init__(self):
        self.mean, self.var = np.zeros(()), np.ones(())
        self.batches = 0

    def update(self, x):
        """Blend in the mean and the unbiased variance of a batch.

        Args:
            x: (N, C, *S), floating.  A batch without entries changes nothing.
        Raises:
            TypeError: x is not of a floating type.
            ValueError: x has another number of channels than before, or one
                value per channel.
        """
        x = checks.array("x", x)
        checks.channels(x.shape)
        self._require_batch(x)
        if x.size == 0:
            return
        self.batches += 1
        weight, (mean_of_batch, var_of_batch) = self._weight(), _moments(x)
        self.mean = (1 - weight) * self.mean + weight * mean_of_batch
        self.var = (1 - weight) * self.var + weight * var_of_batch

    def _require_batch(self, x):
        if self.batches and x.shape[1] != len(self.mean):
            raise ValueError(f"x has {x.shape[1]} channels; the batches before had {len(self.mean)}")
        if x.size and x.size == x.shape[1]:
            raise ValueError(f"x of shape {x.shape} has 1 value per channel; an unbiased variance needs 2 or more")


class PopulationStats(_RunningStats):
    """The statistics of the whole training set, batch by batch, as in the batch norm paper.

        mean = average of mu_B,   var = average of m / (m - 1) * sigma2_B

    mu_B and sigma2_B are the mean and the biased variance of a batch, m = N *
    prod(S) the values behind them.  The factor makes the estimate of the
    variance right on average, for batches of any size.  Collect with frozen
    weights, after training: each batch then counts the same.

    Attributes:
        mean, var: (C,), float64; 0 and 1 before the first batch.
        batches: how many batches went in.
    Source: Ioffe & Szegedy 2015, Algorithm 2, line 10.
    """

    def _weight(self):
        return 1 / self.batches


class EMA(_RunningStats):
    """Exponential moving average: what libraries track while the weights still move.

        mean <- (1 - new_weight) * mean + new_weight * mu_B
        var  <- (1 - new_weight) * var  + new_weight * m / (m - 1) * sigma2_B

    It is not Algorithm 2, whose batches count the same: here a batch counts
    less the older it is, because the weights it was made with are stale.  It
    starts at mean 0 and variance 1, which fade like (1 - new_weight)**t.  torch
    does the same and calls new_weight momentum; flax and Keras call 1 -
    new_weight momentum, and their variance lacks the factor m / (m - 1).

    Args:
        new_weight: weight of the newest batch, above 0 and at most 1.
    Attributes:
        mean, var: (C,), float64; 0 and 1 before the first batch.
        batches: how many batches went in.
    Raises:
        ValueError: new_weight is out of its range.
    Source: Ioffe & Szegedy 2015, section 3.1, which names moving averages in
        one sentence; torch.nn.BatchNorm2d.
    """

    def __init__(self, new_weight=0.1):
        checks.number("new_weight", new_weight)
        if not 0 < new_weight <= 1:
            raise ValueError(f"new_weight must be above 0 and at most 1, got {new_weight}")
        super().__init__()
        self.new_weight = new_weight

    def _weight(self):
        return self.new_weight


def batch_norm_inference(x, gamma, beta, mean, var, *, eps=1e-5):
    """Batch norm with given statistics: the same for a sample whatever its batch.

        y = gamma * (x - mean) / sqrt(var + eps) + beta

    The mean is removed first, before anything is rounded, and in two steps
    where x is float32: the part of the mean that float32 can hold, then the
    rest.

    Args:
        x: (N, C, *S), floating; float16 is computed in float32.
        gamma, beta, mean, var: (C,).
        eps: added to the variance.
    Returns:
        y, with the shape and type of x.
    Raises:
        TypeError: x or one of the four is not of a floating type.
        ValueError: one of the four is not (C,), or var or eps is negative.
    Source: Ioffe & Szegedy 2015, Algorithm 2, line 11.
    """
    x = checks.array("x", x)
    checks.channels(x.shape)
    given = {"gamma": gamma, "beta": beta, "mean": mean, "var": var}
    gamma, beta, mean, var = (checks.array(name, p).astype(np.float64) for name, p in given.items())
    checks.parameters(x.shape, (1,), gamma=gamma, beta=beta, mean=mean, var=var)
    scale = _scale(gamma, var, eps)
    wide = widen(x)
    per_channel = (x.shape[1], *[1] * (x.ndim - 2))
    near = mean.astype(wide.dtype)
    with short_buffers():
        y = wide - near.reshape(per_channel)
        y -= (mean - near).reshape(per_channel)
        y *= scale.reshape(per_channel)
        y += beta.reshape(per_channel)
    return y.astype(x.dtype, copy=False)


def fold_batch_norm(weight, bias, gamma, beta, mean, var, *, eps=1e-5):
    """The linear or convolution layer that does its own work and that of the batch norm after it.

        scale = gamma / sqrt(var + eps)
        weight <- scale * weight,   bias <- scale * (bias - mean) + beta

    Args:
        weight: (out, in) of a linear layer or (out, in, *k) of a convolution.
        bias: (out,), or None for a layer without.
        gamma, beta, mean, var: (out,), those of `batch_norm_inference`.
        eps: added to the variance.
    Returns:
        weight and bias, with the shape and type of weight and (out,).
    Raises:
        TypeError: one of them is not of a floating type.
        ValueError: bias, gamma, beta, mean or var is not (out,), or var or eps
            is negative.
    Source: Ioffe & Szegedy 2015, Algorithm 2, line 11, put into the layer before.
    """
    weight = checks.array("weight", weight)
    if weight.ndim < 2:
        raise ValueError(f"weight has shape {weight.shape}; it needs (out, in) or (out, in, *k)")
    out = len(weight)
    bias = np.zeros(out) if bias is None else bias
    given = {"gamma": gamma, "beta": beta, "mean": mean, "var": var, "bias": bias}
    gamma, beta, mean, var, bias = (checks.array(name, p).astype(np.float64) for name, p in given.items())
    for name, p in given.items():
        if np.shape(p) != (out,):
            raise ValueError(f"{name} has shape {np.shape(p)}; weight of shape {weight.shape} needs {(out,)}")
    scale = _scale(gamma, var, eps)
    folded = weight * scale.reshape(out, *[1] * (weight.ndim - 1))
    return folded.astype(weight.dtype), (scale * (bias - mean) + beta).astype(weight.dtype)


def _moments(x):
    """Mean and unbiased variance of each channel, (C,) in float64."""
    axes = (0, *range(2, x.ndim))
    x_centered, mean = centered(widen(x), axes)
    var = total(x_centered, axes, times=x_centered) / (x.size // x.shape[1] - 1)
    return mean.ravel(), var.ravel()


def _scale(gamma, var, eps):
    """What batch norm with given statistics multiplies by."""
    checks.not_negative(eps)
    if np.any(var < 0):
        checks.not_negative(float(np.nanmin(var)), "var")
    return gamma / np.sqrt(var + eps)
