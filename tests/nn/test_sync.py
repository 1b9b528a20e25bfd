"""Batch norm over ranks is batch norm of one process with all their batches; a rank that fails stops the others.

The ranks are real processes: this file, started as a program, is one of them.
A group of processes is started once and runs all of its cases.
"""

import functools
import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
import torch.distributed as dist
from layers import relative_error

from course_lib import nn
from course_lib.nn import sync

pytestmark = pytest.mark.skipif(not dist.is_available(), reason="this torch is built without torch.distributed")
both_groups = pytest.mark.parametrize("ranks", [2, 3])

TIMEOUT = 120  # of a group, in seconds: longer than any test waits, so that no error is the timeout's
SILENCE = 2  # the same for the group where it is
# Without it gloo takes the network card that the host's name points to.
LOOPBACK = {"GLOO_SOCKET_IFNAME": "lo"} if sys.platform == "linux" else {}
SPLITS = {  # samples of each rank, by the number of ranks
    "even": {2: (6, 6), 3: (4, 4, 4)},
    "uneven": {2: (1, 11), 3: (7, 1, 4)},
    "one each": {2: (1, 1), 3: (1, 1, 1)},
    "last empty": {2: (12, 0), 3: (5, 7, 0)},
    "first empty": {2: (0, 12), 3: (0, 5, 7)},
    "two empty": {2: (0, 12), 3: (0, 12, 0)},
}


class Case(NamedTuple):
    """Three training steps of a layer on samples of a shape, then evaluation."""

    shape: tuple = (6, 3, 4)
    split: str = "uneven"
    dtype: torch.dtype = torch.float64
    mean: float = 3.0
    setting: dict = {}
    memory_format: torch.memory_format = torch.contiguous_format
    parameters: torch.dtype | None = None  # where it is not that of x

    def __str__(self):
        words = ["x".join(map(str, self.shape)), self.split, str(self.dtype).removeprefix("torch."), f"{self.mean:g}",
                 *(f"{name}={value}" for name, value in self.setting.items())]
        return "-".join(words) + ("-last" if self.memory_format in FORMATS.values() else "")

    def layer(self, kind, dtype):
        """A layer with a random gamma and beta, of which all types keep all digits; one gamma is negative."""
        layer = kind(self.shape[0], **self.setting).to(dtype)
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator).half())
                parameter[0] = -1.5
        return layer

    def steps(self, ranks):
        """x and dy of the whole batch; the mean moves with the samples, so that ranks differ in it."""
        n = sum(SPLITS[self.split][ranks])
        generator = torch.Generator().manual_seed(2)
        for step in range(3):
            x, dy = torch.randn((2, n, *self.shape), generator=generator, dtype=torch.float64)
            moving = torch.linspace(-2, 2, n, dtype=torch.float64).reshape(-1, *[1] * len(self.shape))
            x = self.mean + (step + 1) * x + moving
            yield tuple(a.to(self.dtype).contiguous(memory_format=self.memory_format) for a in (x, dy))


FORMATS = {3: torch.channels_last, 4: torch.channels_last_3d}
FLOAT32 = [Case(split=split, dtype=torch.float32, mean=mean) for mean in (0.0, 1e4)
           for split in ("even", "uneven", "first empty")]
CASES = [
    *(Case(shape) for shape in [(6,), (6, 5), (6, 3, 4), (6, 3, 4, 5)]),
    *(Case((6, 5), split) for split in SPLITS if split != "uneven"),
    *(Case(setting=setting) for setting in [
        {"affine": False}, {"bias": False}, {"momentum": None}, {"momentum": 0.7, "eps": 0.1},
        {"track_running_stats": False}]),
    *FLOAT32, *(Case(shape, dtype=torch.float32, mean=1e4) for shape in [(6,), (6, 3, 4, 5)]),
    Case(dtype=torch.float16), Case(dtype=torch.bfloat16, parameters=torch.float32),
    *(Case((6, 3, 4, 5)[:n], memory_format=FORMATS[n], split="even") for n in FORMATS),
    Case(split="last empty", dtype=torch.float32, mean=1e4, memory_format=torch.channels_last),
]
TOLERANCE = {  # of the largest error, as a part of the largest value
    torch.float64: 1e-12,  # rounding, 1e-16 a step in sums of 720 numbers at most
    torch.float32: 1e-6,  # what the layer promises; the statistics of x that float32 has rounded at mean 1e4 are exact
    torch.float16: 2 * torch.finfo(torch.float16).eps,  # a rounding is half an eps; up to three are added
    torch.bfloat16: 2 * torch.finfo(torch.bfloat16).eps,
}


def train(layer, steps):
    """y, dx and the parameters' gradients of each step, the state afterwards, and y in evaluation."""
    found = {}
    for k, (x, dy) in enumerate(steps):
        x.requires_grad_()
        y = layer(x)
        gradients = torch.autograd.grad(y, [x, *layer.parameters()], dy)
        names = ["dx", *(f"d{name}" for name, _ in layer.named_parameters())]
        found |= {f"y {k}": y, **{f"{name} {k}": gradient for name, gradient in zip(names, gradients)}}
    found |= {name: value.clone() for name, value in layer.state_dict().items()}
    if layer.track_running_stats:
        found["evaluation"] = layer.eval()(x)
    return {name: value.detach().cpu() for name, value in found.items()}


def joined(name, parts):
    """What all ranks have found: samples side by side, the sum of parameters' gradients, a state that is the same."""
    if name.startswith(("dweight", "dbias")):
        return sum(part.double() for part in parts)
    return torch.cat(parts).double() if name.startswith(("y", "dx", "evaluation")) else parts[0].double()


def errors(case, parts):
    """Relative errors of the ranks' findings against torch's batch norm of the whole batch in float64."""
    kind = getattr(torch.nn, f"BatchNorm{max(1, len(case.shape) - 1)}d")
    steps = [(x.double(), dy.double()) for x, dy in case.steps(len(parts))]
    right = train(case.layer(kind, torch.float64), steps)
    assert all(set(part) == set(right) for part in parts)
    return {name: relative_error(joined(name, [part[name] for part in parts]).numpy(), right[name].double().numpy())
            for name in right}


# ---------------------------------------------------------------- the processes


def own(case, rank, ranks):
    """The part of a rank of each step."""
    sizes = SPLITS[case.split][ranks]
    return [tuple(a.split(sizes)[rank].detach() for a in step) for step in case.steps(ranks)]


def run_case(case, rank, ranks, device):
    layer = case.layer(nn.SyncBatchNorm, case.parameters or case.dtype).to(device)
    return train(layer, [(x.to(device), dy.to(device)) for x, dy in own(case, rank, ranks)])


def refusal(call):
    try:
        call()
    except (TypeError, ValueError, RuntimeError) as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


def one_value(rank, ranks):
    return refusal(lambda: nn.SyncBatchNorm(3)(torch.ones(int(rank == ranks - 1), 3)))


def bad_input(rank, ranks):
    """Refused before the ranks talk; the same on each rank."""
    return [refusal(lambda: nn.SyncBatchNorm(3)(torch.ones(3))),
            refusal(lambda: nn.SyncBatchNorm(3, eps=0)(torch.ones(2, 3))),
            refusal(lambda: nn.SyncBatchNorm(3)(torch.ones(2, 3).int())),
            refusal(lambda: nn.SyncBatchNorm(3, affine=False)(torch.ones(2, 3).int())),
            refusal(lambda: nn.SyncBatchNorm(3)(torch.ones(2, 3).double()))]


def nothing(rank, ranks):
    layer, x = nn.SyncBatchNorm(3), torch.zeros(0, 3, 4, requires_grad=True)
    layer(x).sum().backward()
    return {"dx": x.grad, "dweight": layer.weight.grad, **layer.state_dict()}


def disagreement(rank, ranks):
    last = rank == ranks - 1
    dtype = torch.float64 if last else torch.float32
    return [refusal(lambda: nn.SyncBatchNorm(3 + last)(torch.ones(2, 3 + last))),
            refusal(lambda: nn.SyncBatchNorm(3, dtype=dtype)(torch.ones(2, 3, dtype=dtype)))]


def number_of_collectives(rank, ranks):
    """In two forwards, in a backward, in the backward of a first layer, and in evaluation with and without statistics.

    All ranks count, and rank 0 alone does what needs no other rank.
    """
    calls, all_gather = [], dist.all_gather
    layer, plain = nn.SyncBatchNorm(3), nn.SyncBatchNorm(3, track_running_stats=False)
    x = torch.linspace(-1, 2, 12).reshape(4, 3)
    first = x.clone().requires_grad_()

    def count(call):
        calls.clear()
        call()
        return len(calls)

    dist.all_gather = lambda *args, **kwargs: calls.append(args) or all_gather(*args, **kwargs)
    try:
        counts = [count(lambda: layer(x)), count(lambda: layer(first)), count(layer(first).sum().backward)]
        y = layer(x)
        if rank == 0:
            counts += [count(y.sum().backward), count(lambda: layer.eval()(x)), count(lambda: plain.eval()(x))]
    finally:
        dist.all_gather = all_gather
    return counts


def evaluation_without_statistics(rank, ranks):
    mine, alone = (kind(3, track_running_stats=False).eval() for kind in (nn.SyncBatchNorm, nn.BatchNorm1d))
    x = torch.linspace(-1, 2, 12).reshape(4, 3) ** (rank + 1)
    return torch.equal(mine(x), alone(x))


def first_layer(rank, ranks):
    """Gradients of the parameters are the same where x needs none."""
    layer, (x, dy) = nn.SyncBatchNorm(6).double(), own(Case(), rank, ranks)[0]
    return [torch.equal(a, b) for a, b in zip(
        torch.autograd.grad(layer(x), layer.parameters(), dy),
        torch.autograd.grad(layer(x.requires_grad_()), layer.parameters(), dy))]


def second_derivative(rank, ranks):
    x = torch.randn(4, 3, requires_grad=True)
    words = []
    for loss in (torch.Tensor.sum, lambda y: y.square().sum()):  # dy constant, and dy a function of x
        dx, = torch.autograd.grad(loss(nn.SyncBatchNorm(3)(x)), x, create_graph=True)
        words.append(refusal(dx.square().sum().backward))
    return words


def subgroup(rank, ranks):
    """The first and the last rank share, then disagree; then each rank is alone."""
    pair = dist.new_group([0, ranks - 1])
    groups = [dist.new_group([k]) for k in range(ranks)]
    x, _ = own(Case((6, 5), "even"), rank, ranks)[0]
    channels, disagree = 3 + (rank > 0), None
    if rank in (0, ranks - 1):
        shared = nn.convert_sync_batchnorm(nn.BatchNorm1d(6), pair).double()(x).detach()
        disagree = refusal(lambda: nn.SyncBatchNorm(channels, process_group=pair)(torch.ones(2, channels)))
    else:
        shared = refusal(lambda: nn.SyncBatchNorm(6, process_group=pair)(x))
    layer, twin = nn.SyncBatchNorm(6, process_group=groups[rank], dtype=x.dtype), nn.BatchNorm1d(6, dtype=x.dtype)
    alone = torch.equal(layer(x), twin(x)) and torch.equal(layer.running_var, twin.running_var)
    return {"shared": shared, "disagree": disagree, "alone": alone}


def data_parallel(rank, ranks):
    """Three steps of DistributedDataParallel; with 2 ranks only, because its import takes each process 3 s."""
    if ranks == 2:
        model = torch.nn.parallel.DistributedDataParallel(nn.convert_sync_batchnorm(network()))
        return fit(model, lambda batch: batch.chunk(ranks)[rank])


def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(5, 6), torch.nn.BatchNorm1d(6), torch.nn.ReLU(), torch.nn.Linear(6, 4), nn.BatchNorm1d(4),
        torch.nn.Linear(4, 2)).double()


def fit(model, part):
    """Three steps on the part of each batch of 12; the state without the prefix that the wrapper adds."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    generator = torch.Generator().manual_seed(3)
    for _ in range(3):
        x, target = (part(torch.randn(12, d, generator=generator, dtype=torch.float64)) for d in (5, 2))
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(model(x), target).backward()
        optimizer.step()
    return {name.removeprefix("module."): value.clone() for name, value in model.state_dict().items()}


def silent(rank, ranks):
    """The last rank lives, but does not come; with 3 ranks only, because it takes its time."""
    if ranks == 3:
        layer = nn.SyncBatchNorm(3, process_group=dist.new_group(timeout=timedelta(seconds=SILENCE)))
        layer(torch.randn(4, 3))
        return time.sleep(SILENCE + 1) if rank == ranks - 1 else stopped(lambda: layer(torch.randn(4, 3)))


def stopped(call):
    """The error of a call, and the seconds until it came."""
    began = time.monotonic()
    return refusal(call), time.monotonic() - began


CHECKS = [one_value, bad_input, nothing, disagreement, number_of_collectives, evaluation_without_statistics,
          first_layer, second_derivative, subgroup, data_parallel, silent]


def end(rank, ranks):
    """The last of 3 ranks raises an error before forward, the last of 2 is killed before backward."""
    layer, x = nn.SyncBatchNorm(3), torch.randn(4, 3, requires_grad=True)
    y = layer(x)
    if rank < ranks - 1:
        return stopped(y.sum().backward if ranks == 2 else lambda: layer(x))
    if ranks == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    layer(torch.ones(2, 4))


def main(rank, ranks, folder, backend):
    rank, ranks, folder = int(rank), int(ranks), Path(folder)
    torch.set_num_threads(1)
    device = f"cuda:{rank}" if backend == "nccl" else "cpu"
    if backend == "nccl":
        torch.cuda.set_device(device)
    dist.init_process_group(backend, init_method=(folder / "store").as_uri(), rank=rank, world_size=ranks,
                            timeout=timedelta(seconds=TIMEOUT))
    found = {str(case): run_case(case, rank, ranks, device) for case in CASES}
    found |= {check.__name__: check(rank, ranks) for check in CHECKS if backend == "gloo"}
    torch.save(found, folder / f"result {rank}")
    if backend == "nccl":
        return dist.destroy_process_group()
    torch.save(found | {"end": end(rank, ranks)}, folder / f"result {rank}")
    os._exit(0)  # threads of gloo that have lost a peer may abort an orderly end


@pytest.fixture(scope="session")
def group(tmp_path_factory):
    """A function that runs a group once: what the ranks have found, None where there is nothing, exit codes, logs."""

    @functools.cache
    def run(ranks, backend="gloo"):
        folder = tmp_path_factory.mktemp("ranks")
        setting = {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **LOOPBACK}
        logs, files = ([folder / f"{name} {rank}" for rank in range(ranks)] for name in ("log", "result"))
        processes, end = [], time.monotonic() + TIMEOUT / 2
        try:
            for rank, log in enumerate(logs):
                with open(log, "w") as file:
                    arguments = [str(rank), str(ranks), str(folder), backend]
                    processes.append(subprocess.Popen([sys.executable, "-W", "error", __file__, *arguments],
                                                      stdout=file, stderr=file, env=os.environ | setting))
            for process in processes:
                process.wait(max(0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            pass  # results are missing, and the exit codes and the logs tell which rank did not end
        finally:
            for process in processes:
                process.kill()
                process.wait()
        results = [torch.load(file) if file.exists() else None for file in files]
        return results, [process.returncode for process in processes], [log.read_text() for log in logs]

    return run


@pytest.fixture
def parts(group, ranks):
    """What each rank of a group has found."""
    results, _, logs = group(ranks)
    assert all(results), "\n".join(logs)
    return results


# ---------------------------------------------------------------- ranks against one process


@both_groups
@pytest.mark.parametrize("case", CASES, ids=str)
def test_ranks_give_the_numbers_of_one_process(case, ranks, parts):
    found = [part[str(case)] for part in parts]
    assert all(part["y 0"].dtype == part["dx 0"].dtype == case.dtype for part in found)
    for part in found:
        for name in ("y 0", "dx 0"):
            assert part[name].is_contiguous(memory_format=case.memory_format)
    wrong = {name: error for name, error in errors(case, found).items() if not error < TOLERANCE[case.dtype]}
    assert not wrong


@both_groups
@pytest.mark.parametrize("case", [case for case in CASES if case.setting.get("track_running_stats", True)], ids=str)
def test_running_statistics_have_the_same_bits_on_all_ranks(case, ranks, parts):
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        first, *others = (part[str(case)][name] for part in parts)
        assert all(torch.equal(first, other) for other in others)


@both_groups
def test_one_value_on_all_ranks_together_is_refused_by_all(ranks, parts):
    for rank, part in enumerate(parts):
        shape = f"({int(rank == ranks - 1)}, 3)"
        assert part["one_value"] == (f"ValueError: x of shape {shape} has 1 value per channel on all {ranks} ranks "
                                     "together; a variance needs 2 or more")


@both_groups
def test_bad_input_is_refused_on_ranks_as_on_one_process(ranks, parts):
    expected = ["ValueError: expected at least 2D", "ValueError: batch_norm eps must be positive",
                "TypeError: x is int32", "TypeError: x is int32", "TypeError: weight is float32, but x is float64"]
    for part in parts:
        for words, start in zip(part["bad_input"], expected, strict=True):
            assert words.startswith(start)


@both_groups
def test_batches_of_0_on_all_ranks_leave_the_running_statistics_alone(ranks, parts):
    fresh = {**nn.SyncBatchNorm(3).state_dict(), "dx": torch.zeros(0, 3, 4), "dweight": torch.zeros(3),
             "num_batches_tracked": torch.tensor(1)}
    for part in parts:
        torch.testing.assert_close(part["nothing"], fresh, rtol=0, atol=0)


@both_groups
def test_ranks_that_disagree_are_told_so_on_all_ranks(ranks, parts):
    start = "ValueError: the ranks of a SyncBatchNorm disagree about x: rank 0 has 3 channels of float32"
    for part in parts:
        assert part["disagreement"] == [f"{start}, rank {ranks - 1} has 4 channels of float32",
                                        f"{start}, rank {ranks - 1} has 3 channels of float64"]


@both_groups
def test_forward_and_backward_gather_once_and_evaluation_never(ranks, parts):
    """Twice on the first call; a backward that needs no dx, and evaluation, work on one rank alone."""
    assert [part["number_of_collectives"] for part in parts] == [[2, 1, 1, 0, 0, 0], *[[2, 1, 1]] * (ranks - 1)]


@both_groups
def test_evaluation_without_running_statistics_is_that_of_the_rank_as_in_torch(ranks, parts):
    assert all(part["evaluation_without_statistics"] for part in parts)


@both_groups
def test_first_layer_gives_the_same_gradients_of_its_parameters(ranks, parts):
    assert all(part["first_layer"] == [True, True] for part in parts)


@both_groups
def test_second_derivative_is_refused(ranks, parts):
    assert all("cannot differentiate twice: SyncBatchNorm" in words for part in parts
               for words in part["second_derivative"])


@both_groups
def test_process_group_limits_who_shares(ranks, parts):
    x, _ = next(Case((6, 5), "even").steps(ranks))
    shares = x.chunk(ranks)
    y = torch.nn.BatchNorm1d(6).double()(torch.cat((shares[0], shares[-1])))
    found = torch.cat((parts[0]["subgroup"]["shared"], parts[-1]["subgroup"]["shared"]))
    assert relative_error(found.numpy(), y.detach().numpy()) < TOLERANCE[torch.float64]
    for rank in range(1, ranks - 1):
        assert f"rank {rank} is not in the process group" in parts[rank]["subgroup"]["shared"]
    for part in (parts[0], parts[-1]):
        assert f"rank {ranks - 1} has 4 channels" in part["subgroup"]["disagree"]
    assert all(part["subgroup"]["alone"] for part in parts)


@pytest.mark.parametrize("ranks", [2])
def test_data_parallel_training_is_that_of_one_process(ranks, parts):
    right = fit(network(), lambda batch: batch)
    for part in parts:
        # float64 and three steps of a small network: rounding, and nothing that makes it grow
        torch.testing.assert_close(part["data_parallel"], right, rtol=1e-11, atol=1e-12)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="NCCL needs a GPU for each of two ranks")
def test_ranks_on_gpus_give_the_numbers_of_one_process(group):
    results, codes, logs = group(2, "nccl")
    assert not any(codes), "\n".join(logs)
    for case in CASES:
        found = errors(case, [part[str(case)] for part in results])
        assert max(found.values()) < TOLERANCE[case.dtype], (str(case), found)


# ---------------------------------------------------------------- a rank that fails


FORWARD, BACKWARD = "the statistics of 3 channels", "the sums of the gradients of 3 channels"


def assert_stopped(found, rank, ranks, awaited, longest=10, shortest=0.0):
    """By the error that names all this, and in time: 0.8 s were observed; 10 are for a busy machine."""
    words, seconds = found
    assert words.startswith(
        f"RuntimeError: SyncBatchNorm on rank {rank} waited for {awaited} from the {ranks} ranks of its group")
    assert shortest < seconds < longest


@pytest.mark.parametrize(("ranks", "code", "awaited"), [(3, 1, FORWARD), (2, -9, BACKWARD)])
def test_rank_that_raises_or_is_killed_stops_the_others_at_once(ranks, code, awaited, parts, group):
    _, codes, logs = group(ranks)
    assert codes == [*[0] * (ranks - 1), code], "\n".join(logs)
    for rank in range(ranks - 1):
        assert_stopped(parts[rank]["end"], rank, ranks, awaited)
    assert code != 1 or "ValueError: x has 4 channels; this SyncBatchNorm has 3" in logs[-1]


@pytest.mark.parametrize("ranks", [3])
def test_rank_that_does_not_come_stops_the_others_after_the_timeout(ranks, parts):
    for rank in range(ranks - 1):
        assert_stopped(parts[rank]["silent"], rank, ranks, FORWARD, shortest=SILENCE - 0.5)


# ---------------------------------------------------------------- one process


def pair(setting=None):
    """Our layer and our batch norm with the same random parameters."""
    case = Case(setting=setting or {})
    return [case.layer(kind, torch.float64) for kind in (nn.SyncBatchNorm, nn.BatchNorm2d)]


@pytest.fixture
def group_of_one(tmp_path, monkeypatch):
    for name, value in LOOPBACK.items():
        monkeypatch.setenv(name, value)
    dist.init_process_group("gloo", init_method=(tmp_path / "store").as_uri(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def same_bits(setting):
    mine, theirs = (train(layer, Case().steps(2)) for layer in pair(setting))
    return all(torch.equal(mine[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize(
    "setting", [{}, {"affine": False}, {"momentum": None}, {"track_running_stats": False}], ids=str)
def test_without_ranks_it_is_our_batch_norm_to_the_bit(setting):
    assert same_bits(setting)


@pytest.mark.usefixtures("group_of_one")
def test_on_one_rank_it_is_our_batch_norm_to_the_bit():
    assert same_bits({})


def test_checkpoint_and_words_are_those_of_torch():
    for setting in ({}, {"affine": False}, {"bias": False}, {"track_running_stats": False}):
        mine, theirs = nn.SyncBatchNorm(6, **setting), torch.nn.SyncBatchNorm(6, **setting)
        assert repr(mine) == repr(theirs)
        torch.testing.assert_close(mine.state_dict(), theirs.state_dict(), rtol=0, atol=0)
        theirs.load_state_dict(mine.state_dict(), strict=True)
        mine.load_state_dict(theirs.state_dict(), strict=True)


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda: nn.SyncBatchNorm(3)(torch.ones(3)), ValueError, r"expected at least 2D input \(got 1D input\)"),
    (lambda: nn.SyncBatchNorm(3)(torch.ones(2, 4)), ValueError, "x has 4 channels; this SyncBatchNorm has 3"),
    (lambda: nn.SyncBatchNorm(3)(torch.ones(1, 3)), ValueError, r"x of shape \(1, 3\) has 1 value"),
    (lambda: nn.SyncBatchNorm(3, eps=0)(torch.ones(2, 3)), ValueError, "eps must be positive.*got 0"),
    (lambda: nn.SyncBatchNorm(3)(torch.ones(2, 3).int()), TypeError, "x is int32"),
    (lambda: nn.SyncBatchNorm(3)(torch.ones(2, 3).double()), TypeError, "float32, but x is float64"),
    (lambda: nn.convert_sync_batchnorm(torch.nn.LazyBatchNorm1d()), ValueError, "LazyBatchNorm1d has 0 channels"),
])
def test_bad_input_is_refused_with_its_numbers(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("kind", [
    *(getattr(package, f"BatchNorm{d}d") for package in (nn, torch.nn) for d in (1, 2, 3)),
    nn.SyncBatchNorm, torch.nn.SyncBatchNorm], ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
@pytest.mark.parametrize("setting", [
    {}, {"affine": False}, {"bias": False}, {"track_running_stats": False},
    {"eps": 0.1, "momentum": None, "dtype": torch.float64}], ids=str)
def test_conversion_keeps_settings_and_the_same_tensors(kind, setting):
    old = kind(6, **setting).eval()
    new = nn.convert_sync_batchnorm(old, "a group")
    assert type(new) is nn.SyncBatchNorm and new.process_group == "a group" and not new.training
    assert list(new.state_dict()) == list(old.state_dict()) and new.extra_repr() == old.extra_repr()
    for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
        assert getattr(new, name) is getattr(old, name)


def test_conversion_reaches_all_depths_and_changes_nothing_else():
    torch.manual_seed(0)
    shared = torch.nn.BatchNorm2d(4)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), shared, torch.nn.ModuleDict({"a": torch.nn.ModuleList([nn.BatchNorm2d(4)])}),
        torch.nn.InstanceNorm2d(4), nn.GroupNorm(2, 4), shared)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    others = [model[0], model[3], model[4]]
    model[2]["a"][0].eval()
    assert nn.SyncBatchNorm.convert_sync_batchnorm(model) is model
    assert [model[0], model[3], model[4]] == others
    assert type(model[1]) is type(model[2]["a"][0]) is nn.SyncBatchNorm and model[5] is model[1]
    assert model[1].training and not model[2]["a"][0].training
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    assert list(model.state_dict()) == list(before)


def test_moments_keep_their_digits_at_a_large_mean():
    x = (1e6 + torch.randn(64, 3, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)).float()
    mu, rest, m2 = (moment.double() for moment in sync._moments(x))
    right = x.double()
    # sums of 1280 numbers near 1 in float32; mu alone would be wrong by 0.03, and the variance by its square
    torch.testing.assert_close(mu + rest, right.mean((0, 2)), rtol=0, atol=1e-6)
    torch.testing.assert_close(m2 / 1280, right.var((0, 2), correction=0), rtol=1e-6, atol=0)


def test_merge_is_the_pairwise_formula_of_chan_applied_in_turn():
    """With a rank without values, and a count that float32 does not have."""
    generator = torch.Generator().manual_seed(0)
    counts = torch.tensor([[3.0], [2**24 + 1], [0], [1], [5]], dtype=torch.float64)
    mu, rest, m2 = torch.randn((3, 5, 4), generator=generator, dtype=torch.float64)
    m2 = counts * m2.square()
    n, mean, squares = 0, 0, 0
    for k, mean_k, m2_k in zip(counts, mu + rest, m2):
        delta = mean_k - mean
        squares = squares + m2_k + delta**2 * n * k / max(1, n + k)
        mean, n = mean + delta * k / max(1, n + k), n + k
    found, left, var = sync._merge(counts, mu, rest, m2)
    # float64, five parts; a count rounded to float32 would be wrong by 6e-8
    torch.testing.assert_close([found + left, var], [mean, squares / n], rtol=1e-13, atol=0)


if __name__ == "__main__":
    main(*sys.argv[1:])
