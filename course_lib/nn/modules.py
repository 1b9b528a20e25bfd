"""Layers with the names, arguments, defaults and `state_dict` of `torch.nn`, and arithmetic of our own.

A checkpoint of `torch.nn` loads strictly and gives the same numbers.  torch's
own classes keep the parameters and the buffers; only `forward` is ours.  To
`torch.fx` each layer is one step, as torch's own are.
"""

from functools import wraps

import torch
from torch import fx, nn

from .. import checks
from . import functional as F
from . import lines
from .over import BATCH, MAP, Over


def one_step(forward):
    """Makes a `forward` that leaves a layer whole where `torch.fx` traces a network: there are no numbers to check."""
    @wraps(forward)
    def run(self, x):
        if isinstance(x, fx.Proxy):
            if self is x.tracer.root:
                raise TypeError(f"a {type(self).__name__} by itself cannot be traced; trace a network that holds it")
            return x.tracer.create_proxy("call_module", x.tracer.path_of_module(self), (x,), {})
        F.require_tensors(x=x)
        return forward(self, x)
    return run


class BatchNorm:
    """What all classes of batch norm share: forward for any number of spatial axes, running statistics as torch's."""

    @one_step
    def forward(self, x):
        self._check_input_dim(x)
        require_channels(x, self.num_features, "BatchNorm")
        if not self.training and self.running_mean is not None:
            require_fit(x, (1,), weight=self.weight, bias=self.bias, running_mean=self.running_mean,
                        running_var=self.running_var)
            return F.batch_norm_inference(x, self.weight, self.bias, self.running_mean, self.running_var, eps=self.eps)
        require_fit(x, (1,), weight=self.weight, bias=self.bias)
        require_positive(self.eps)
        y, mean, var = F.norm(x, self.weight, self.bias, over=BATCH, eps=self.eps)
        if self.training and self.track_running_stats:
            self.track(mean, var, x.numel() // max(1, x.shape[1]))
        return y

    def track(self, mean, var, count):
        """Blend the statistics of a batch, of `count` values a channel, into the running ones."""
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        if count and self.running_mean is not None:
            new_weight = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
            _blend(self.running_mean, mean, new_weight)
            _blend(self.running_var, var * count / (count - 1), new_weight)


class BatchNorm1d(BatchNorm, nn.BatchNorm1d):
    """Batch norm of (N, C) or (N, C, L); `torch.nn.BatchNorm1d`."""


class BatchNorm2d(BatchNorm, nn.BatchNorm2d):
    """Batch norm of (N, C, H, W); `torch.nn.BatchNorm2d`."""


class BatchNorm3d(BatchNorm, nn.BatchNorm3d):
    """Batch norm of (N, C, D, H, W); `torch.nn.BatchNorm3d`."""


class _InstanceNorm:
    """The forward of instance norm; torch's class adds the sample axis where there is none, and calls ours."""

    forward = one_step(nn.modules.instancenorm._InstanceNorm.forward)

    def _apply_instance_norm(self, x):
        if self.running_mean is not None:
            require_channels(x, self.num_features, type(self).__name__)
        require_fit(x, (1,), weight=self.weight, bias=self.bias, running_mean=self.running_mean,
                    running_var=self.running_var)
        if not self.training and self.track_running_stats:
            return F.batch_norm_inference(x, self.weight, self.bias, self.running_mean, self.running_var, eps=self.eps)
        if self.running_mean is not None:
            checks.samples_to_keep(x.shape)  # torch's become NaN
        checks.statistics(x.shape, MAP.axes(x.ndim))  # torch's layer refuses maps of one value, its other layers do not
        y, mean, var = F.norm(x, self.weight, self.bias, over=MAP, eps=self.eps)
        if self.running_mean is not None and x.numel():
            count, new_weight = x[0, 0].numel(), self.momentum or 0.0
            _blend(self.running_mean, mean.mean(0), new_weight)
            _blend(self.running_var, var.mean(0) * count / (count - 1), new_weight)
        return y


class InstanceNorm1d(_InstanceNorm, nn.InstanceNorm1d):
    """Instance norm of (N, C, L) or (C, L); `torch.nn.InstanceNorm1d`."""


class InstanceNorm2d(_InstanceNorm, nn.InstanceNorm2d):
    """Instance norm of (N, C, H, W) or (C, H, W); `torch.nn.InstanceNorm2d`."""


class InstanceNorm3d(_InstanceNorm, nn.InstanceNorm3d):
    """Instance norm of (N, C, D, H, W) or (C, D, H, W); `torch.nn.InstanceNorm3d`."""


class LayerNorm(nn.LayerNorm):
    """Layer norm over the last axes; `torch.nn.LayerNorm`."""

    @one_step
    def forward(self, x):
        over = _last(x, self.normalized_shape)
        require_fit(x, over.param_axes(x.ndim), weight=self.weight, bias=self.bias)
        return F.norm(x, self.weight, self.bias, over=over, eps=self.eps)[0]


class RMSNorm(nn.RMSNorm):
    """RMS norm over the last axes; `torch.nn.RMSNorm`, whose eps of None is the machine epsilon of the computation."""

    @one_step
    def forward(self, x):
        over = _last(x, self.normalized_shape)
        require_fit(x, over.param_axes(x.ndim), weight=self.weight)
        eps = torch.finfo(lines.wide(x)).eps if self.eps is None else self.eps
        return F.norm(x, self.weight, None, over=over, center=False, eps=eps)[0]


class GroupNorm(nn.GroupNorm):
    """Group norm; `torch.nn.GroupNorm`."""

    def __init__(self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True,
                 device=None, dtype=None, *, bias: bool = True) -> None:
        checks.groups(num_groups, num_channels, "num_groups")
        super().__init__(num_groups, num_channels, eps, affine, device, dtype)
        if not bias:  # here, because older versions of torch do not know the argument
            self.register_parameter("bias", None)

    @one_step
    def forward(self, x):
        require_channels(x, self.num_channels, "GroupNorm")
        require_fit(x, (1,), weight=self.weight, bias=self.bias)
        return F.group_norm(x, self.weight, self.bias, groups=self.num_groups, eps=self.eps)


class FilterResponseNorm(nn.Module):
    """Filter response norm of (N, C, *S); put a `TLU` after it, since without a mean there is nothing to be zero.

    Args:
        num_features: C.
        eps: added to the mean square.
        learned_eps: for maps of few entries: eps + |eps_l| is added, eps_l learned, (C,), 1e-4 at first.
    Source: Singh & Krishnan 2020, section 3.
    """

    _learned = ("weight", "bias")

    def __init__(self, num_features, eps=1e-6, learned_eps=False, device=None, dtype=None):
        super().__init__()
        self.num_features, self.eps, self.learned_eps = num_features, eps, learned_eps
        for name in (*self._learned, "eps_l") if learned_eps else self._learned:
            setattr(self, name, nn.Parameter(torch.empty(num_features, device=device, dtype=dtype)))
        self.reset_parameters()

    def reset_parameters(self):
        nn.init.ones_(self.weight)
        nn.init.zeros_(self.bias)
        if self.learned_eps:
            nn.init.constant_(self.eps_l, 1e-4)

    @one_step
    def forward(self, x):
        self._require_fit(x)
        return F.filter_response_norm(x, self.weight, self.bias, eps=self._eps())

    def _require_fit(self, x):
        require_channels(x, self.num_features, type(self).__name__)
        require_fit(x, (1,), **dict(self.named_parameters()))

    def _eps(self):
        return self.eps + self.eps_l.abs() if self.learned_eps else self.eps

    def extra_repr(self):
        return f"{self.num_features}, eps={self.eps}, learned_eps={self.learned_eps}"


class FilterResponseNormTLU(FilterResponseNorm):
    """`FilterResponseNorm` and `TLU` in one layer; on a GPU one kernel, which stores nothing of what lies between.

    Args:
        num_features, eps, learned_eps: as in `FilterResponseNorm`.
    Source: Singh & Krishnan 2020, section 3.
    """

    _learned = ("weight", "bias", "tau")

    def reset_parameters(self):
        super().reset_parameters()
        nn.init.zeros_(self.tau)

    @one_step
    def forward(self, x):
        self._require_fit(x)
        return F.filter_response_norm_tlu(x, self.weight, self.bias, self.tau, eps=self._eps())


class TLU(nn.Module):
    """Thresholded linear unit of (N, C, *S): max(x, tau), tau learned, (C,), 0 at first.

    Source: Singh & Krishnan 2020, section 3.
    """

    def __init__(self, num_features, device=None, dtype=None):
        super().__init__()
        self.num_features = num_features
        self.tau = nn.Parameter(torch.zeros(num_features, device=device, dtype=dtype))

    @one_step
    def forward(self, x):
        require_channels(x, self.num_features, type(self).__name__)
        return F.tlu(x, self.tau)

    def extra_repr(self):
        return f"{self.num_features}"


class LocalResponseNorm(nn.LocalResponseNorm):
    """Local response norm of (N, C, *S); `torch.nn.LocalResponseNorm`, which divides alpha by size."""

    @one_step
    def forward(self, x):
        if x.ndim < 3:
            raise ValueError(f"expected 3D or higher dimensionality input (got {x.ndim}D input)")
        checks.window(self.size, self.k, self.alpha, self.beta)
        return F.local_response_norm(x, size=self.size, k=self.k, alpha=self.alpha / self.size, beta=self.beta)


class ZCAWhitening(nn.Module):
    """Batch norm with a full matrix: channels of (N, C, *S) leave with mean 0, variance 1 and no correlation.

    Statistics are shared as in batch norm, over N and *S.  Running statistics
    follow batch norm as well: `momentum` is the weight of the new batch, the
    covariance they keep is unbiased, and evaluation uses them.

    Args:
        num_features: C; a batch needs more than C entries per channel, or eps hides the difference.
        eps: added to each variance.
        momentum: None averages over all batches.
        affine: learn a scale and a shift per channel.
        track_running_stats: False uses the batch in evaluation too.
    Source: Huang et al. 2018, "Decorrelated batch normalization".
    """

    def __init__(self, num_features, eps=1e-5, momentum=0.1, affine=True, track_running_stats=True,
                 device=None, dtype=None):
        super().__init__()
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats
        setting = {"device": device, "dtype": dtype}
        self.weight = nn.Parameter(torch.ones(num_features, **setting)) if affine else None
        self.bias = nn.Parameter(torch.zeros(num_features, **setting)) if affine else None
        if track_running_stats:
            self.register_buffer("running_mean", torch.zeros(num_features, **setting))
            self.register_buffer("running_cov", torch.eye(num_features, **setting))
            self.register_buffer("num_batches_tracked", torch.tensor(0, device=device))

    @one_step
    def forward(self, x):
        require_channels(x, self.num_features, type(self).__name__)
        rows = x.movedim(1, -1).reshape(-1, self.num_features)
        if self.training or not self.track_running_stats:
            y, mean, cov = F.whiten_with_moments(rows, eps=self.eps)
            if self.training and self.track_running_stats:
                self._track(mean, cov, len(rows))
        else:
            y = F.whiten_inference(rows, self.running_mean, self.running_cov, eps=self.eps)
        if self.affine:
            y = (y * self.weight + self.bias).to(x.dtype)
        return torch.empty_like(x).copy_(y.reshape(x.movedim(1, -1).shape).movedim(-1, 1))

    def _track(self, mean, cov, count):
        self.num_batches_tracked.add_(1)
        if count:
            new_weight = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
            _blend(self.running_mean, mean, new_weight)
            _blend(self.running_cov, cov * count / (count - 1), new_weight)

    def extra_repr(self):
        return (f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
                f"track_running_stats={self.track_running_stats}")


@torch.no_grad()
def _blend(running, new, new_weight):
    """running <- (1 - new_weight) * running + new_weight * new, rounded once where running is of a half type."""
    running = running[...]  # a view: `torch.func` lets nobody change a tensor that it has not made itself
    running.copy_(lines.widen(running) * (1 - new_weight) + new_weight * new.reshape(running.shape))


def require_channels(x, channels, name):
    """x has the channels of the layer."""
    if x.ndim < 2:
        raise ValueError(f"expected at least 2D input (got {x.ndim}D input)")
    if x.shape[1] != channels:
        raise ValueError(f"x has {x.shape[1]} channels; this {name} has {channels}")


def require_fit(x, axes, **own):
    """The layer's parameters and buffers fit x; where they may not, it is said here, in the layer's words for them."""
    if not x.is_floating_point() or any(p is not None and p.dtype != x.dtype for p in own.values()):
        checks.floating(x=x)
        F.require_parameters(x, axes, **own)


def require_positive(eps):
    """torch's batch norm refuses an eps of 0 in training, and so does ours."""
    if not eps > 0:
        raise ValueError(f"batch_norm eps must be positive during training, but got {eps}")


def _last(x, normalized_shape):
    if tuple(x.shape[x.ndim - len(normalized_shape):]) != normalized_shape:
        raise ValueError(f"x of shape {tuple(x.shape)} does not end in normalized_shape {normalized_shape}")
    return Over("last", len(normalized_shape))
