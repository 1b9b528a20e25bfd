"""Two processes, each with a part of a batch: what chapter 5 runs to show batch norm over several ranks."""

import multiprocessing
import os
import sys
import tempfile
from pathlib import Path

import torch
import torch.distributed as dist

from ...nn import SyncBatchNorm


def shared_statistics(x):
    """Mean and biased variance over the rows of x of all ranks."""
    sums = torch.cat([x.sum(0), x.new_tensor([len(x)])])
    dist.all_reduce(sums)  # each rank gets the sum over all ranks
    mean, n = sums[:-1] / sums[-1], sums[-1]
    squares = ((x - mean) ** 2).sum(0)
    dist.all_reduce(squares)
    return mean, squares / n


def on_two_ranks(parts, dy_parts):
    """Start two processes, give each its part of a batch, and collect what each has computed.

    Args:
        parts, dy_parts: two float64 tensors (N_i, C) each: the rows of x, and of the gradient of the loss by y.
    Returns:
        A list of two dicts of arrays: own_mean, mean and var (C,) of `shared_statistics`, y and dx (N_i, C) of
        `SyncBatchNorm`.
    Raises:
        RuntimeError: a process did not end well.
    """
    start = multiprocessing.get_context("spawn")  # a fresh interpreter: safe in a notebook, whatever it has imported
    with tempfile.TemporaryDirectory() as folder:
        ranks = [start.Process(target=_one_rank, args=(rank, folder, x.numpy(), dy.numpy()))
                 for rank, (x, dy) in enumerate(zip(parts, dy_parts, strict=True))]
        for rank in ranks:
            rank.start()
        for rank in ranks:
            rank.join(60)
        codes = [rank.exitcode for rank in ranks]
        if codes != [0, 0]:
            for rank in ranks:
                rank.kill()
            raise RuntimeError(f"the two processes ended with codes {codes}, not 0 and 0")
        return [torch.load(Path(folder, f"{rank}.pt"), weights_only=True) for rank in range(len(ranks))]


def _one_rank(rank, folder, x, dy):
    """What each process does; it leaves its results in the folder."""
    if sys.platform == "linux":
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    x, dy = torch.tensor(x, requires_grad=True), torch.tensor(dy)
    dist.init_process_group("gloo", init_method=Path(folder, "store").as_uri(), rank=rank, world_size=2)
    mean, var = shared_statistics(x.detach())
    y = SyncBatchNorm(x.shape[1]).double()(x)
    y.backward(dy)
    torch.save({"own_mean": x.detach().mean(0), "mean": mean, "var": var, "y": y.detach(), "dx": x.grad},
               Path(folder, f"{rank}.pt"))
    dist.destroy_process_group()
