"""The library of the course: normalization in NumPy, readable and exact; its torch twin is `course_lib.nn`."""

from .norms import (
    batch_norm,
    filter_response_norm,
    group_norm,
    instance_norm,
    layer_norm,
    norm_backward,
    rms_norm,
    tlu,
    tlu_backward,
)
from .standardize import standardize, standardize_backward
