"""How long our torch layers take beside torch's own and beside the same formula in plain (eager) torch.

    python benchmarks/torch_layers.py [rounds]

Forward plus backward, float32; on the GPU where there is one, else on one CPU
thread, in processor time, which does not count what other programs take.  The
three take turns within each round, so that a busy minute hits them alike, and
the best time of each counts.  A ratio above 1 means that ours is faster.
"""

import os
import platform
import sys
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch loads its thread pool

import torch
import torch.nn.functional as theirs

from course_lib.nn import functional as ours

MAPS, ROWS, GROUPS = (32, 64, 56, 56), (4096, 1024), 32
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def plain(axes, *, center=True, groups=None):
    """A layer written down step by step; autograd finds the backward pass."""
    def layer(x, gamma, beta=None):
        seen = x.unflatten(1, (groups, -1)) if groups else x
        x_centered = seen - seen.mean(axes, keepdim=True) if center else seen
        x_hat = x_centered * torch.rsqrt(x_centered.square().mean(axes, keepdim=True) + 1e-5)
        y = x_hat.flatten(1, 2) * gamma if groups else x_hat * gamma
        return y if beta is None else y + beta
    return layer


def plain_tlu(x, gamma, beta, tau):
    return torch.maximum(plain((2, 3), center=False)(x, gamma, beta), tau)


def plain_lrn(x):
    squares = theirs.pad(x.square(), (0, 0, 0, 0, 2, 2))
    window = sum(squares[:, shift:shift + x.shape[1]] for shift in range(5))
    return x / (1 + 1e-4 / 5 * window) ** 0.75


def flat(layer):
    """For the fused layers, which take parameters of shape (C,)."""
    return lambda x, *params: layer(x, *(p.flatten() for p in params))


# name: shape of x, number of parameters, ours, torch's own, plain
LAYERS = {
    "batch norm": (MAPS, 2, flat(ours.batch_norm), flat(lambda x, g, b: theirs.batch_norm(x, None, None, g, b, True)),
                   plain((0, 2, 3))),
    "layer norm": (ROWS, 2, flat(ours.layer_norm), flat(lambda x, g, b: theirs.layer_norm(x, g.shape, g, b)),
                   plain((1,))),
    "group norm": (MAPS, 2, flat(lambda x, g, b: ours.group_norm(x, g, b, groups=GROUPS)),
                   flat(lambda x, g, b: theirs.group_norm(x, GROUPS, g, b)), plain((2, 3, 4), groups=GROUPS)),
    "instance norm": (MAPS, 2, flat(ours.instance_norm),
                      flat(lambda x, g, b: theirs.instance_norm(x, weight=g, bias=b)), plain((2, 3))),
    "RMS norm": (ROWS, 1, flat(ours.rms_norm), flat(lambda x, g: theirs.rms_norm(x, g.shape, g, 1e-5)),
                 plain((1,), center=False)),
    "FRN + TLU": (MAPS, 3, flat(lambda x, g, b, tau: ours.tlu(ours.filter_response_norm(x, g, b), tau)), None,
                  plain_tlu),
    "LRN": (MAPS, 0, lambda x: ours.local_response_norm(x, k=1.0, alpha=1e-4 / 5),
            lambda x: theirs.local_response_norm(x, 5), plain_lrn),
}


def seconds(layer, x, params, dy):
    """The time of a forward and a backward pass, and of the forward pass alone."""
    start = now()
    y = layer(x, *params)
    middle = now()
    torch.autograd.grad(y, (x, *params), dy)
    return now() - start, middle - start


def now():
    if DEVICE == "cpu":
        return time.thread_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def measure(name, rounds):
    """The best times of ours, torch's and plain, each as (both passes, forward pass)."""
    shape, count, *contenders = LAYERS[name]
    torch.manual_seed(0)
    x, dy = torch.randn(shape, device=DEVICE, requires_grad=True), torch.randn(shape, device=DEVICE)
    param_shape = (1, shape[1], 1, 1)[:len(shape)]
    params = [torch.randn(param_shape, device=DEVICE, requires_grad=True) for _ in range(count)]
    best = [(float("inf"),) * 2] * 3
    for _ in range(rounds):
        for i, layer in enumerate(contenders):
            if layer:
                best[i] = tuple(map(min, best[i], seconds(layer, x, params, dy)))
    return best


def main(rounds):
    torch.set_num_threads(1)
    machine = torch.cuda.get_device_name() if DEVICE == "cuda" else platform.processor() or platform.machine()
    print(f"{machine}, {platform.system()}, Python {platform.python_version()}, torch {torch.__version__}, "
          f"{torch.get_num_threads()} thread, best of {rounds} rounds")
    print("milliseconds, forward + backward (forward alone); times faster than torch, than plain\n")
    print(f"{'layer':14}{'ours':>16}{'torch':>16}{'plain':>16}{'vs torch':>10}{'vs plain':>10}")
    for name in LAYERS:
        times = measure(name, rounds)
        cells = [f"{both * 1e3:.1f} ({forward * 1e3:.1f})" if both < float("inf") else "-" for both, forward in times]
        ratios = [f"{other / times[0][0]:.2f}" if other < float("inf") else "-" for other, _ in times[1:]]
        print(f"{name:14}" + "".join(f"{c:>16}" for c in cells) + "".join(f"{r:>10}" for r in ratios), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 12)
