"""What nine libraries keep of each batch for evaluation, as one small function a library.

Each takes batches x (N, C, H, W) and returns what it stores, under the library's own names, and the mean, the
variance and the eps with which it would evaluate.  Defaults are the library's.  COMPARED holds what libraries gave
when they were run beside these functions; LIBRARIES says of each how it is known.
"""

import numpy as np

AXES = (0, 2, 3)


def biased(x):
    return x.var(axis=AXES)


def unbiased(x):  # m / (m - 1) times the biased one, m = N * H * W
    return x.var(axis=AXES, ddof=1)


def _blend(batches, new_weight, variance):
    """The moving averages from 0 and 1 that most of them share."""
    mean, var = np.zeros(batches[0].shape[1]), np.ones(batches[0].shape[1])
    for x in batches:
        mean = mean + new_weight * (x.mean(axis=AXES) - mean)
        var = var + new_weight * (variance(x) - var)
    return mean, var


def pytorch(batches, momentum=0.1, eps=1e-5):
    mean, var = _blend(batches, momentum, unbiased)
    return {"running_mean": mean, "running_var": var, "num_batches_tracked": len(batches)}, mean, var, eps


def keras(batches, momentum=0.99, epsilon=1e-3):
    mean, var = _blend(batches, 1 - momentum, biased)
    return {"moving_mean": mean, "moving_variance": var}, mean, var, epsilon


def tf_keras(batches, momentum=0.99, epsilon=1e-3):
    """Of images, through its fused kernel; of (N, C) it keeps the biased variance."""
    mean, var = _blend(batches, 1 - momentum, unbiased)
    return {"moving_mean": mean, "moving_variance": var}, mean, var, epsilon


def flax(batches, momentum=0.99, epsilon=1e-5):
    mean, var = _blend(batches, 1 - momentum, biased)
    return {"batch_stats": {"mean": mean, "var": var}}, mean, var, epsilon


def haiku(batches, decay_rate=0.99, eps=1e-5):
    """Averages from 0, divided by the weight that they have.  decay_rate has no default: 0.99 is ours."""
    hidden_mean, hidden_var = np.zeros((2, batches[0].shape[1]))
    for x in batches:
        hidden_mean = decay_rate * hidden_mean + (1 - decay_rate) * x.mean(axis=AXES)
        hidden_var = decay_rate * hidden_var + (1 - decay_rate) * biased(x)
    mean, var = (hidden / (1 - decay_rate ** len(batches)) for hidden in (hidden_mean, hidden_var))
    return {"mean_ema": {"hidden": hidden_mean, "average": mean, "counter": len(batches)},
            "var_ema": {"hidden": hidden_var, "average": var, "counter": len(batches)}}, mean, var, eps


def tinygrad(batches, momentum=0.1, eps=1e-5):
    mean, var = _blend(batches, momentum, unbiased)
    return {"running_mean": mean, "running_var": var, "num_batches_tracked": len(batches)}, mean, var, eps


def onnx(batches, momentum=0.9, epsilon=1e-5):
    """Stores nothing itself: the graph hands mean and variance in and takes them out."""
    mean, var = _blend(batches, 1 - momentum, biased)
    return {"input_mean": mean, "input_var": var}, mean, var, epsilon


def caffe(batches, moving_average_fraction=0.999, eps=1e-5):
    """Three blobs: two sums in which old batches fade, and their weight."""
    blobs = [0.0, 0.0, 0.0]
    for x in batches:
        for k, new in enumerate((x.mean(axis=AXES), unbiased(x), 1.0)):
            blobs[k] = moving_average_fraction * blobs[k] + new
    mean, var = blobs[0] / blobs[2], blobs[1] / blobs[2]
    return {"blobs": blobs}, mean, var, eps


def cudnn(batches, exponentialAverageFactor=0.1, epsilon=1e-5):
    """Both numbers come from the caller: these are PyTorch's."""
    mean, var = _blend(batches, exponentialAverageFactor, unbiased)
    return {"resultRunningMean": mean, "resultRunningVariance": var}, mean, var, epsilon


COMPARED = {  # what the library itself kept of the chapter's three batches on 28 November 2026, and its eps:
    # package and version, mean, variance, eps; printed by benchmarks/chapter05.py
    "Keras 3": ("keras 3.15.1", 0.14429, 1.09234, 1e-3),
    "tf_keras 2": ("tf_keras 2.21.0", 0.14429, 1.10978, 1e-3),
    "Flax": ("flax 0.12.8", 0.14429, 1.09234, 1e-5),
    "Haiku": ("dm-haiku 0.0.17", 4.85825, 4.10901, 1e-5),
    "tinygrad": ("tinygrad 0.14.0", 1.31098, 1.99508, 1e-5),
    "ONNX": ("onnx 1.23.2", 1.31098, 1.83682, 1e-5)}  # its reference implementation

LIBRARIES = {  # the function, and how it is known that the library does so
    "PyTorch 2.13": (pytorch, "run here"), "Keras 3": (keras, "run"), "tf_keras 2": (tf_keras, "run"),
    "Flax": (flax, "run"), "Haiku": (haiku, "run"), "tinygrad": (tinygrad, "run"), "ONNX": (onnx, "run"),
    "Caffe": (caffe, "read"), "cuDNN": (cudnn, "reported")}
