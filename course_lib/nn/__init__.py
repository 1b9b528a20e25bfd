"""The torch half of the course: `functional` mirrors the NumPy names, the layers here mirror `torch.nn`."""

from . import functional
from .functional import use_kernels
from .modules import (
    TLU,
    BatchNorm1d,
    BatchNorm2d,
    BatchNorm3d,
    FilterResponseNorm,
    FilterResponseNormTLU,
    GroupNorm,
    InstanceNorm1d,
    InstanceNorm2d,
    InstanceNorm3d,
    LayerNorm,
    LocalResponseNorm,
    RMSNorm,
    ZCAWhitening,
)
from .sync import SyncBatchNorm, convert_sync_batchnorm

__all__ = [
    "TLU",
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "FilterResponseNorm",
    "FilterResponseNormTLU",
    "GroupNorm",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "InstanceNorm3d",
    "LayerNorm",
    "LocalResponseNorm",
    "RMSNorm",
    "SyncBatchNorm",
    "ZCAWhitening",
    "convert_sync_batchnorm",
    "functional",
    "use_kernels",
]
