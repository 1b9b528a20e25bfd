"""What the libraries of chapter 5's table themselves keep of the chapter's three batches.

    python -m venv compare && compare/bin/pip install keras jax tf_keras tensorflow-cpu flax dm-haiku tinygrad onnx
    PYTHONPATH=. compare/bin/python benchmarks/chapter05.py

Prints mean, variance and eps of each library that is installed, beside those of the function that stands for it in
`course_lib/chapters/ch05/conventions.py`, and ends with an error if they differ by more than float32 does.  The
numbers and versions of the last run are kept there, in COMPARED; the chapter holds its functions to them.
"""

import inspect
import os
from importlib.metadata import version

os.environ.update(KERAS_BACKEND="jax", TF_CPP_MIN_LOG_LEVEL="3", DEV="PYTHON")

import numpy as np

from course_lib.chapters.ch05.conventions import LIBRARIES

rng = np.random.default_rng(4)
BATCHES = [rng.normal(5, 2, (2, 1, 2, 2)).astype("float32") for _ in range(3)]
CHANNELS_LAST = [x.transpose(0, 2, 3, 1) for x in BATCHES]


def keras():
    import keras
    layer = keras.layers.BatchNormalization()
    for x in CHANNELS_LAST:
        layer(x, training=True)
    return layer.moving_mean, layer.moving_variance, layer.epsilon


def tf_keras():
    import tf_keras
    layer = tf_keras.layers.BatchNormalization()
    for x in CHANNELS_LAST:
        layer(x, training=True)
    return layer.moving_mean, layer.moving_variance, layer.epsilon


def flax():
    import flax.linen
    import jax
    layer = flax.linen.BatchNorm(use_running_average=False)
    state = layer.init(jax.random.key(0), CHANNELS_LAST[0])
    for x in CHANNELS_LAST:
        state |= layer.apply(state, x, mutable=["batch_stats"])[1]
    return state["batch_stats"]["mean"], state["batch_stats"]["var"], layer.epsilon


def haiku():
    import haiku
    net = haiku.transform_with_state(lambda x: haiku.BatchNorm(True, True, decay_rate=0.99)(x, is_training=True))
    params, state = net.init(None, CHANNELS_LAST[0])
    for x in CHANNELS_LAST:
        _, state = net.apply(params, state, None, x)
    mean, var = (state[f"batch_norm/~/{name}_ema"]["average"] for name in ("mean", "var"))
    return mean, var, inspect.signature(haiku.BatchNorm).parameters["eps"].default


def tinygrad():
    from tinygrad import Tensor, nn
    from tinygrad.helpers import Context
    layer = nn.BatchNorm2d(1)
    with Context(TRAINING=1):
        for x in BATCHES:
            layer(Tensor(x)).realize()
    return layer.running_mean.numpy(), layer.running_var.numpy(), layer.eps


def onnx():
    """Its own reference implementation, of opset 15."""
    import onnx
    from onnx import TensorProto, helper
    from onnx.reference import ReferenceEvaluator
    names, given = ["y", "mean", "var"], ["x", "scale", "B", "input_mean", "input_var"]
    node = helper.make_node("BatchNormalization", given, names, training_mode=1)
    graph = helper.make_graph([node], "one_layer", *(
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in each] for each in (given, names)))
    layer = ReferenceEvaluator(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)]))
    one, mean, var = np.ones(1, "f"), np.zeros(1, "f"), np.ones(1, "f")
    for x in BATCHES:
        _, mean, var = layer.run(None, dict(zip(given, (x, one, 0 * one, mean, var))))
    return mean, var, onnx.defs.get_schema("BatchNormalization", 15).attributes["epsilon"].default_value.f


PACKAGES = {"Keras 3": (keras, "keras"), "tf_keras 2": (tf_keras, "tf_keras"), "Flax": (flax, "flax"),
            "Haiku": (haiku, "dm-haiku"), "tinygrad": (tinygrad, "tinygrad"), "ONNX": (onnx, "onnx")}


def main():
    for name, (run, package) in PACKAGES.items():
        mean, var, eps = (float(np.squeeze(each)) for each in run())
        ours = LIBRARIES[name][0](BATCHES)
        print(f'    "{name}": ("{version(package)}", {mean:.5f}, {var:.5f}, {eps:g}),')
        assert np.allclose([mean, var, eps], [ours[1][0], ours[2][0], ours[3]], rtol=1e-5, atol=0), (name, ours[1:])


if __name__ == "__main__":
    main()
