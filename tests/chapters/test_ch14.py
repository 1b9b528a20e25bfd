"""Chapter 14, normalization on a GPU: each equation and each claim, by a way that is not the text's own."""

import importlib.util
import math
import sys
from fractions import Fraction

import numpy as np
import pytest
import torch
from chapter import chapters

from course_lib import layer_norm, norm_backward, rms_norm
from course_lib.chapters.ch14 import compiled, measures, stand_in
from course_lib.chapters.ch14.measures import Traffic, empty

H100 = (3.35e12, 67e12, 989e12)  # bytes, vector and tensor operations a second


def page():
    (chapter,) = (each for each in chapters() if each.number == 14)
    return chapter


def defined(*names, **scope):
    """Functions of the page, by name, with what the scope gives them."""
    for cell in page().cells:
        names_here = {node.name for node in cell.tree.body if hasattr(node, "name")}
        if names_here & set(names):
            exec("\n".join(cell.source.split("\nfor ")[0].splitlines()), scope)
    return [scope[name] for name in names]


# Bytes


def test_bound_and_its_bend():
    """Equation (14.1): the memory decides below P / W operations a byte, and both bounds are equal there."""
    W, P, tensor = H100
    assert P / W == 20 and round(tensor / W) == 295
    for intensity in (0.3, 2.0, 20.0, 300.0):
        B = 1e9
        t = max(intensity * B / P, B / W)
        assert (t == B / W) == (intensity <= P / W)


def test_traffic_counts_what_moves():
    a, b = torch.empty(10, 4), torch.empty(4)
    with Traffic() as count:
        c = a + b
    assert (count.steps, count.bytes, count.flops) == (1, a.nbytes + b.nbytes + c.nbytes, 40)
    with Traffic() as count:
        d = a.view(4, 10).T  # no byte moves
        d = d * d  # it is read once
    assert (count.steps, count.bytes) == (1, 2 * a.nbytes)
    with Traffic() as count:
        b.expand(10, 4) + a  # an expanded array is read once
    assert count.bytes == 2 * a.nbytes + b.nbytes


@pytest.mark.parametrize("name", measures.LAYERS)
def test_layers_step_by_step_are_the_layers(name):
    """What is counted is what the course calls by that name."""
    import course_lib

    layer, _, parameters, (forward, backward) = measures.LAYERS[name]
    rng = np.random.default_rng(1)
    x = rng.normal(2, 1, (4, 6) if name in ("layer norm", "RMS norm") else (3, 6, 4, 2))
    sizes = [(6, *[1] * (len(each) - 1)) for each in parameters]
    gamma, beta = rng.standard_normal((2, 6))
    given = [torch.tensor(p).reshape(size) for p, size in zip((gamma, beta), sizes, strict=False)]
    y = layer(torch.tensor(x), *given).numpy()
    ours = {"layer norm": lambda: layer_norm(x, gamma, beta), "RMS norm": lambda: rms_norm(x, gamma, eps=1e-5),
            "batch norm": lambda: course_lib.batch_norm(x, gamma, beta),
            "instance norm": lambda: course_lib.instance_norm(x, gamma, beta),
            "local response norm": lambda: course_lib.local_response_norm(x, k=1.0, alpha=0.2)}
    if name == "RMS norm":
        y = measures.standardized((1,), center=False)(torch.tensor(x), given[0], None).numpy()
    assert np.allclose(y, ours[name]()[0], atol=1e-10)
    steps = measures.counted(name)
    assert steps[0].bytes > 2 * forward * steps[2] and steps[1].bytes > 2 * backward * steps[2]


def test_torch_in_one_operation_moves_the_least():
    x, gamma = empty(*measures.TOKENS), empty(4096)
    with Traffic() as forward:
        y = torch.nn.functional.layer_norm(x, (4096,), gamma, gamma)
    dy = torch.empty_like(y)
    with Traffic() as backward:
        torch.autograd.grad(y, (x, gamma), dy)
    assert [round(each.bytes / x.nbytes, 1) for each in (forward, backward)] == [2, 3]


def test_bounds_of_exercise_1():
    size = 2 * 256 * 320 * 32 * 32
    assert round(size / 1e6) == 168 and round(4 * size / 1e6) == 671 and round(2 * size / 1e6) == 336
    assert round(4 * size / H100[0] * 1e6) == 200 and round(2 * size / H100[0] * 1e6) == 100
    assert round(3 * 8192 / H100[0] * 1e9) == 7


def test_place_in_memory():
    """Equation (14.2): (n C + c) S + s, which is what strides say."""
    x = torch.arange(2 * 6 * 4).reshape(2, 6, 4)
    for n, c, s in np.ndindex(2, 6, 4):
        assert x[n, c, s] == (n * 6 + c) * 4 + s == sum(a * b for a, b in zip((n, c, s), x.stride()))


# Moments


METHODS = ("one_pass", "welford", "chan", "two_pass", "centre_twice")


def exact(row):
    """The variance in whole fractions: nothing is rounded."""
    values = [Fraction(float(v)) for v in row]
    mean = sum(values) / len(values)
    return float(sum((v - mean) ** 2 for v in values) / len(values))


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_the_variance(name):
    """Equation (14.3), and the others of the page, in float64 at a small mean."""
    (method,) = defined(name, torch=torch, np=np, two_pass=lambda d: (d - d.mean(1, keepdim=True)).square().mean(1))
    x = np.random.default_rng(2).normal(1, 2, (3, 16))
    assert np.allclose(method(torch.tensor(x)), [exact(row) for row in x], rtol=1e-12)


def test_welford_update():
    """Equation (14.4): after each number, mean and sum of squares of those seen so far."""
    x = np.random.default_rng(3).normal(5, 2, 20)
    mu = M2 = 0.0
    for n, value in enumerate(x, start=1):
        before = mu
        mu = before + (value - before) / n
        M2 += (value - before) * (value - mu)
        assert np.isclose(mu, x[:n].mean()) and np.isclose(M2, n * x[:n].var())


@pytest.mark.parametrize("n_a", [1, 5, 19])
def test_merge_of_two_parts(n_a):
    """Equation (14.5): two parts of any sizes; one number as a part is Welford's update."""
    x = np.random.default_rng(4).normal(3, 2, 20)
    a, b = x[:n_a], x[n_a:]
    delta = b.mean() - a.mean()
    assert np.isclose(a.mean() + delta * len(b) / 20, x.mean())
    M2 = len(a) * a.var() + len(b) * b.var() + delta**2 * len(a) * len(b) / 20
    assert np.isclose(M2, 20 * x.var())


@pytest.mark.parametrize(("name", "power"), [("one_pass", 2), ("welford", 1), ("chan", 1)])
def test_powers_of_the_mean(name, power):
    """Equation (14.6): the error grows as a power of the mean, on other data than the page's; two passes keep u."""
    method, two_pass = defined(name, "two_pass", torch=torch, np=np)
    z = np.random.default_rng(77).standard_normal((32, 512))

    def error(method, mean):
        x = torch.tensor(z + mean, dtype=torch.float32)
        right = np.array([exact(row) for row in x[:16]])
        return np.median(np.abs(method(x)[:16].double().numpy() - right) / right)

    slope = math.log10(error(method, 1e5) / error(method, 1e3)) / 2
    assert abs(slope - power) < 0.5
    assert error(two_pass, 1e3) < 1.2e-7 and error(two_pass, 1e6) > 3e-6


def test_bfloat16_stops_counting():
    one = torch.tensor(1.0, dtype=torch.bfloat16)
    assert 256 * one + one == 256 and 254 * one + one == 255
    assert torch.nextafter(256 * one, 300 * one) == 258


# Kernels


def kernels(tmp_path, modules=None):
    """The kernels of the page in a module of their own, for Triton's interpreter or for the stand-in."""
    cells = [cell.source for cell in page().cells if cell.source.startswith("@triton.jit") and len(cell.tree.body) == 1]
    assert len(cells) == 7
    code = "\n\n\n".join(cells)
    if modules:
        scope = dict(zip(("triton", "tl"), modules, strict=True))
        exec(code, scope)
        return lambda name: scope[name]
    path = tmp_path / "page_kernels.py"
    path.write_text("import triton\nimport triton.language as tl\n\n\n" + code, encoding="utf8")
    spec = importlib.util.spec_from_file_location("page_kernels", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return lambda name: getattr(module, name)


@pytest.fixture(params=["triton", "stand-in"])
def kernel(request, tmp_path):
    if request.param == "stand-in":
        return kernels(tmp_path, stand_in.modules())
    pytest.importorskip("triton", reason="Triton is not installed")
    if torch.cuda.is_available():
        pytest.skip("compiled kernels want tensors of the GPU: the notebook runs them there")
    return kernels(tmp_path)


N, D, BD, EPS = 7, 11, 16, 1e-3


def arrays(seed):
    rng = np.random.default_rng(seed)
    x, dy = rng.normal(3, 2, (N, D)), rng.standard_normal((N, D))
    gamma, beta = rng.normal(1, 1, D), rng.standard_normal(D)
    return (x, dy, gamma, beta), [torch.tensor(a, dtype=torch.float32) for a in (x, dy, gamma, beta)]


def test_forward_kernel(kernel):
    (x, _, gamma, beta), (x_t, _, gamma_t, beta_t) = arrays(5)
    y_t = torch.empty(N * D + 5).fill_(9.0)  # what lies behind y stays as it is
    kernel("ln_forward")[(N,)](x_t, gamma_t, beta_t, y_t, EPS, D=D, BD=BD)
    assert np.allclose(y_t[: N * D].reshape(N, D), layer_norm(x, gamma, beta, eps=EPS)[0], atol=5e-6)
    assert torch.all(y_t[N * D :] == 9)


def test_forward_kernel_of_bfloat16(kernel):
    """It computes in float32: off by a step of its type (the interpreter cuts digits off), a long row too."""
    x = torch.tensor(np.random.default_rng(9).normal(3, 2, (2, 4096))).bfloat16()
    gamma, beta, y = torch.ones(4096).bfloat16(), torch.zeros(4096).bfloat16(), torch.empty_like(x)
    kernel("ln_forward")[(2,)](x, gamma, beta, y, EPS, D=4096, BD=4096)
    right = layer_norm(x.double().numpy(), gamma.double().numpy(), beta.double().numpy(), eps=EPS)[0]
    assert np.allclose(y.double().numpy(), right, rtol=2**-7, atol=1e-5)  # a step of bfloat16


@pytest.mark.parametrize("programs", [1, 3, 7])
def test_backward_kernel(kernel, programs):
    """Equation (14.7): partial sums of the rows n = p mod P, one row a program; their sum is dgamma."""
    (x, dy, gamma, beta), (x_t, dy_t, gamma_t, _) = arrays(6)
    dx_t, dgamma_t, dbeta_t = torch.empty(N, D), torch.empty(programs, D), torch.empty(programs, D)
    kernel("ln_backward")[(programs,)](x_t, dy_t, gamma_t, dx_t, dgamma_t, dbeta_t, N, EPS, D=D, BD=BD)
    dx, dgamma, dbeta = norm_backward(dy, layer_norm(x, gamma, beta, eps=EPS)[1])
    assert np.allclose(dx_t, dx, atol=5e-6)
    assert np.allclose(dgamma_t.sum(0), dgamma, atol=1e-5) and np.allclose(dbeta_t.sum(0), dbeta, atol=1e-5)
    for p in range(programs):
        assert np.allclose(dbeta_t[p], dy[p::programs].sum(0), atol=1e-5)


def test_residual_and_rms_norm_in_one_kernel(kernel):
    """Equation (14.9): both h and y come out."""
    (x, r, gamma, _), (x_t, r_t, gamma_t, _) = arrays(7)
    h_t, y_t = torch.empty(N, D), torch.empty(N, D)
    kernel("add_rms")[(N,)](x_t, r_t, gamma_t, h_t, y_t, EPS, D=D, BD=BD)
    h = x + r
    assert np.allclose(h_t, h, atol=2e-6)
    assert np.allclose(y_t, gamma * h / np.sqrt((h**2).mean(1, keepdims=True) + EPS), atol=5e-6)
    steps = measures.add_rms(torch.tensor(x), torch.tensor(r), torch.tensor(gamma))
    assert np.allclose(steps[1], rms_norm(h, gamma, eps=1e-5)[0])


def test_stand_in_reads_and_writes_nothing_behind_the_mask():
    _, tl = stand_in.modules()
    memory = torch.arange(5.0)
    pointer = stand_in.Pointer(memory)
    lanes = tl.arange(0, 8)
    assert tl.load(pointer + lanes, mask=lanes < 5, other=-1.0).tolist() == [0, 1, 2, 3, 4, -1, -1, -1]
    tl.store(pointer + lanes, torch.full((8,), 7.0), mask=lanes < 2)
    assert memory.tolist() == [7, 7, 2, 3, 4]
    with pytest.raises(IndexError):
        tl.load(pointer + lanes)


def test_share_of_the_partial_sums():
    """Equation (14.8): each is written and read once in float32, two of them, against three arrays of b bytes."""
    rows, d, b, programs = 32768, 4096, 2, 264
    moved = 2 * 2 * programs * d * 4
    assert moved / (3 * rows * d * b) == 16 * programs / (3 * b * rows)
    assert round(100 * moved / (3 * rows * d * b)) == 2


def test_lines_of_the_compiler():
    """What the page says of them; benchmarks/chapter14.py makes them anew."""
    assert len(compiled.LINES) == 18 and {line[:2] for line in compiled.LINES} == {
        (d, warps) for d in (1024, 4096, 16384) for warps in (1, 2, 4, 8, 16, 32)}
    for d, warps, registers, _, wide, narrow in compiled.LINES:
        assert 16 <= registers <= 255 and wide + narrow >= 3
        assert (narrow > 0) == (d / (32 * warps) < 4), "fewer than four float32 a thread"


def test_notebook_module_is_not_needed_for_the_checker():
    """The exercises of the chapter are NumPy alone: they work where Triton is missing."""
    from course_lib.chapters.ch14 import exercises

    assert "triton" not in vars(exercises) and "torch" not in vars(exercises)
    assert "course_lib.chapters.ch14.exercises" in sys.modules


# Ranks


def test_ranks_merge_to_the_statistics_of_all():
    (merge,) = defined("merge", np=np)
    x = np.random.default_rng(8).normal(100, 3, (40, 5))
    parts = np.split(x, [3, 4, 30])
    mu, var = merge([(len(p), p.mean(0), ((p - p.mean(0)) ** 2).sum(0)) for p in parts])
    assert np.allclose(mu, x.mean(0)) and np.allclose(var, x.var(0))
