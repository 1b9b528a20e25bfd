"""The library of the course: normalization in NumPy, readable and exact; its torch twin is `course_lib.nn`."""

from . import data
from .gradcheck import check_vjp
from .init import (
    LayerVariances,
    constant,
    he_normal,
    he_uniform,
    lecun_normal,
    lsuv,
    measured_variances,
    normal,
    orthogonal,
    predicted_variances,
    xavier_normal,
    xavier_uniform,
)
from .lrn import divisive_norm, local_response_norm, local_response_norm_backward
from .norms import (
    batch_norm,
    filter_response_norm,
    group_norm,
    instance_norm,
    layer_norm,
    norm_backward,
    rms_norm,
)
from .running_stats import EMA, PopulationStats, batch_norm_inference, fold_batch_norm
from .standardize import standardize, standardize_backward
from .tlu import filter_response_norm_tlu, filter_response_norm_tlu_backward, tlu, tlu_backward
from .whitening import whiten, whiten_backward

__all__ = [  # in the order of the chapters
    # 1 internal covariate shift, and every chapter after it
    "data",
    # 2 whitening
    "whiten", "whiten_backward",
    # 3 weight initialization
    "constant", "normal", "lecun_normal", "xavier_normal", "xavier_uniform", "he_normal", "he_uniform", "orthogonal",
    "lsuv", "predicted_variances", "measured_variances", "LayerVariances",
    # 4 batch normalization: forward and backward
    "standardize", "standardize_backward", "batch_norm", "norm_backward", "check_vjp",
    # 5 inference statistics
    "PopulationStats", "EMA", "batch_norm_inference", "fold_batch_norm",
    # 7 layer norm and RMS norm
    "layer_norm", "rms_norm",
    # 8 instance norm
    "instance_norm",
    # 9 group norm
    "group_norm",
    # 10 filter response norm and TLU
    "filter_response_norm", "tlu", "tlu_backward", "filter_response_norm_tlu", "filter_response_norm_tlu_backward",
    # 11 local response and divisive normalization
    "local_response_norm", "local_response_norm_backward", "divisive_norm",
]
