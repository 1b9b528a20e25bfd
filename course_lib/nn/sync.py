"""Batch norm over several ranks: the workers of `torch.distributed` normalize by the statistics of all their batches.

Each rank sums over its own batch, three numbers per channel travel, and every
rank merges them in the same way, so that all go on with the same bits:

    n = sum_i n_i,   mean = sum_i n_i mean_i / n
    M2 = sum_i (M2_i + n_i (mean_i - mean)**2)

Source: Chan, Golub & LeVeque 1979, "Updating formulae and a pairwise algorithm for computing sample variances",
    for two parts.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from .. import checks
from .lines import first_derivative_only, per_channel, wide
from .modules import BatchNorm, one_step, require_channels, require_fit, require_positive

__all__ = ["SyncBatchNorm", "convert_sync_batchnorm"]

TYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


class SyncBatchNorm(BatchNorm, nn.modules.batchnorm._BatchNorm):
    """Batch norm of (N, C, *S) over the batches of all ranks of a process group; `torch.nn.SyncBatchNorm`.

    On any device that the group serves, CPUs (gloo) too.  Batches may differ
    in size and be empty.  In evaluation, on one rank and without a process
    group it is our batch norm.  In training all ranks must call it: forward
    gathers once (on the first call twice, to compare the ranks), backward once
    if x needs a gradient.  Gradients of weight and bias are those of the rank's
    own batch, which `DistributedDataParallel` averages.  It refuses subclasses
    of torch's class on CPUs, so ours is none.  There is no second derivative.

    Args:
        num_features, eps, momentum, affine, track_running_stats, bias: as for `BatchNorm2d`.
        process_group: the ranks that share statistics; None for all.
    Raises:
        TypeError: x is not of a floating type, or a parameter not of its type.
        ValueError: x has other channels, a channel has 1 value on all ranks
            together, ranks disagree about channels or type, or this rank is
            not in the group.
        RuntimeError: another rank has failed.  With gloo at once if its process
            has ended; if it lives but does not come, and with NCCL always,
            after the timeout given to `init_process_group` (30 minutes, NCCL
            10).  NCCL then ends this process too, unless
            TORCH_NCCL_BLOCKING_WAIT=1 makes it raise this error.
    Source: Ioffe & Szegedy 2015, Algorithm 1; Chan, Golub & LeVeque 1979.
    """

    _compared = False  # have the ranks agreed about x?

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = True,
                 track_running_stats: bool = True, process_group: Any | None = None, device=None, dtype=None, *,
                 bias: bool = True) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype)
        if not bias:  # here, because older versions of torch do not know the argument
            self.register_parameter("bias", None)
        self.process_group = process_group

    def _check_input_dim(self, x):
        require_channels(x, self.num_features, "SyncBatchNorm")

    @one_step
    def forward(self, x):
        group = self._group()
        if group is None:
            return super().forward(x)
        self._check_input_dim(x)
        require_positive(self.eps)
        require_fit(x, (1,), weight=self.weight, bias=self.bias)
        if not self._compared:
            _require_agreement(x, group)
            self._compared = True
        y, mean, var, count = SyncNorm.apply(x, self.weight, self.bias, self.eps, group)
        if self.track_running_stats:
            self.track(mean, var, count)
        return y

    def _group(self):
        """The ranks to share with, or None.  As in torch, evaluation without running statistics shares nothing."""
        if not (self.training and dist.is_available() and dist.is_initialized()):
            return None
        group = dist.group.WORLD if self.process_group is None else self.process_group
        if dist.get_rank(group) < 0:
            raise ValueError(f"rank {dist.get_rank()} is not in the process group of this SyncBatchNorm")
        return group if dist.get_world_size(group) > 1 else None

    @classmethod
    def convert_sync_batchnorm(cls, module, process_group=None):
        """The function `convert_sync_batchnorm`."""
        return convert_sync_batchnorm(module, process_group)


def convert_sync_batchnorm(module, process_group=None):
    """Put a `SyncBatchNorm` in the place of each batch norm of a network, of ours or of torch.

    The new layers hold the same parameters and buffers, so that an optimizer
    made before stays right, and are in the same mode; hooks are not taken over.

    Args:
        module: the network, which is changed in place, as by `torch.nn.SyncBatchNorm.convert_sync_batchnorm`.
        process_group: the ranks that share statistics; None for all.
    Returns:
        module, or a `SyncBatchNorm` if module is a batch norm itself.
    Raises:
        ValueError: a lazy batch norm has not seen its first batch.
    """
    old = [layer for layer in module.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    new = {layer: _converted(layer, process_group) for layer in old}  # a layer used at two places stays one layer
    for parent in list(module.modules()):
        for name, child in list(parent._modules.items()):  # named_children would skip the second place
            if child in new:
                setattr(parent, name, new[child])
    return new.get(module, module)


def _converted(layer, process_group):
    if layer.num_features == 0:
        raise ValueError(f"{type(layer).__name__} has 0 channels until its first batch: run the network, then convert")
    new = SyncBatchNorm(layer.num_features, layer.eps, layer.momentum, layer.affine, layer.track_running_stats,
                        process_group, device="meta")
    for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
        setattr(new, name, getattr(layer, name))
    return new.train(layer.training)


class SyncNorm(torch.autograd.Function):
    """`lines.Norm` over N and *S of all ranks; gamma and beta are (C,) or None.

    Mean and biased variance in float64, and the number of values per channel,
    come out as well, for running statistics.
    """

    @staticmethod
    def forward(ctx, x, gamma, beta, eps, group):
        mine = x.new_tensor([x.numel() // max(1, x.shape[1])], dtype=torch.float64), *_moments(x)
        rows = _gather(torch.cat(mine), group, f"the statistics of {x.shape[1]} channels")
        count = int(rows[:, 0].sum())
        if count == 1:
            raise ValueError(f"x of shape {tuple(x.shape)} has 1 value per channel on all {len(rows)} ranks together; "
                             "a variance needs 2 or more")
        mu, rest, var = _merge(rows[:, :1], *rows[:, 1:].chunk(3, 1))
        hi = mu.to(wide(x))
        lo = (mu - hi + rest).to(hi.dtype)
        inv_std = torch.rsqrt(var + eps).to(hi.dtype)
        mean = mu + rest
        ctx.save_for_backward(x, gamma, beta, hi, lo, inv_std)
        ctx.mark_non_differentiable(mean, var)
        ctx.count, ctx.group = count, group
        return _apply(x, gamma, beta, hi, lo, inv_std), mean, var, count

    @staticmethod
    @first_derivative_only("SyncBatchNorm")
    def backward(ctx, dy, *_):
        x, gamma, beta, hi, lo, inv_std = ctx.saved_tensors
        dx, sums = None, _sums(x, dy, hi, lo)
        if ctx.needs_input_grad[0]:  # a property of the network: all ranks gather or none, an empty batch as well
            rows = _gather(torch.cat(sums), ctx.group, f"the sums of the gradients of {x.shape[1]} channels")
            means = (rows.sum(0) / max(1, ctx.count)).to(hi.dtype).chunk(2)
            dx = _input_gradient(x, dy, gamma, hi, lo, inv_std, *means)
        dbeta, dgamma = sums[0], sums[1] * inv_std
        return dx, _like(dgamma, gamma), _like(dbeta, beta), None, None


def _merge(counts, mu, rest, m2):
    """The formula at the top, in float64, for rows of ranks: the mean as a sum of two, and the biased variance."""
    count = counts.sum().clamp(min=1)
    mean = (counts * mu).sum(0) / count
    offset = (mu - mean) + rest  # centred, then summed again: keeps the digits of float64 input as well
    rest = (counts * offset).sum(0) / count
    return mean, rest, (m2 + counts * (offset - rest).square()).sum(0) / count


def _moments(x):
    """The mean of each channel as mu + rest, and M2, the sum of squares around it; (C,) each."""
    axes, count = _shared(x), max(1, x.numel() // max(1, x.shape[1]))
    x = x.to(wide(x))
    mu = x.sum(axes) / count
    x_centered = x - _column(mu, x)
    rest = x_centered.sum(axes) / count  # what the rounding of mu has left
    return mu, rest, x_centered.sub_(_column(rest, x)).square_().sum(axes)


def _apply(x, gamma, beta, hi, lo, inv_std):
    """gamma * ((x - hi) - lo) * inv_std + beta, in the type and memory format of x."""
    y = _centered(x, hi, lo).mul_(_column(inv_std if gamma is None else gamma * inv_std, x))
    return (y if beta is None else y.add_(_column(beta, x))).to(x.dtype)


def _sums(x, dy, hi, lo):
    """The sums of dy and of dy * x_centered over a batch, (C,) each."""
    dy = dy.to(hi.dtype)
    return dy.sum(_shared(x)), _centered(x, hi, lo).mul_(dy).sum(_shared(x))


def _input_gradient(x, dy, gamma, hi, lo, inv_std, mean_dy, mean_dy_x_centered):
    """gamma * inv_std * (dy - mean(dy) - x_centered * inv_std**2 * mean(dy * x_centered)), the means over all ranks."""
    along_x = _column(mean_dy_x_centered * inv_std.square(), x)
    dx = (dy - _column(mean_dy, x)).sub_(_centered(x, hi, lo).mul_(along_x))
    return dx.mul_(_column(inv_std if gamma is None else gamma * inv_std, x)).to(x.dtype)


def _centered(x, hi, lo):
    return (x.to(hi.dtype) - _column(hi, x)).sub_(_column(lo, x))


def _shared(x):
    return 0, *range(2, x.ndim)


def _column(a, x):
    return per_channel(a, x.ndim)


def _like(gradient, parameter):
    return None if parameter is None else gradient.to(parameter.dtype)


def _gather(mine, group, what):
    """The numbers of all ranks in float64, a row each in the order of the ranks, so that sums agree to the bit."""
    mine, ranks = mine.to(torch.float64), dist.get_world_size(group)
    rows = mine.new_empty(ranks, len(mine))
    try:
        dist.all_gather(list(rows.unbind()), mine, group=group)
    except RuntimeError as error:
        raise RuntimeError(
            f"SyncBatchNorm on rank {dist.get_rank()} waited for {what} from the {ranks} ranks of its group; "
            f"has one of them failed, or not come in time? {error}") from error
    return rows


def _require_agreement(x, group):
    """Compare channels and types: with rows of two lengths, gloo aborts one process and gives another wrong numbers."""
    mine = x.new_tensor([x.shape[1], TYPES.index(x.dtype)], dtype=torch.float64)
    rows = _gather(mine, group, "the number of channels and the type of x").int().tolist()
    seen = [f"{channels} channels of {checks.type_name(TYPES[kind])}" for channels, kind in rows]
    if len(set(seen)) > 1:
        ranks = dist.get_process_group_ranks(group)
        words = ", ".join(f"rank {ranks[seen.index(each)]} has {each}" for each in dict.fromkeys(seen))
        raise ValueError(f"the ranks of a SyncBatchNorm disagree about x: {words}")
