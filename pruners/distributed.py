"""Distributed pruning: all processes score units, and all follow the plan of process 0.

Under ``torch.distributed`` each process scores units on its own batches. Without it every function here returns
its argument. All processes must make the same calls, in the same order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

from pruners.errors import MethodError, PlanError
from pruners.plan import PruningPlan

__all__ = [
    "active",
    "broadcast_buffers",
    "broadcast_plan",
    "is_first",
    "joined_rows",
    "largest",
    "reduce_means",
    "total",
    "world_size",
]


def active() -> bool:
    """Return whether several processes work together."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def is_first() -> bool:
    """Return whether this process is the only one, or the first of several."""
    return not active() or dist.get_rank() == 0


def world_size() -> int:
    """Return the number of cooperating processes."""
    return dist.get_world_size() if active() else 1


def reduce_means(means: Sequence[Tensor], n: int) -> tuple[list[Tensor], int]:
    """Average tensors over the processes, weighted by `n`.

    Parameters
    ----------
    means : sequence of Tensor
        Of any shapes, the same in every process.
    n : int
        Number of examples behind this process's means.

    Returns
    -------
    tuple of (list of Tensor, int)
        The averages as float64, and the sum of all `n`.

    Raises
    ------
    MethodError
        The `n` add up to zero.
    """
    wide = [mean.to(torch.float64) for mean in means]
    if not active():
        return wide, n
    flat = torch.cat([torch.tensor([float(n)], dtype=torch.float64), *(mean.cpu().reshape(-1) * n for mean in wide)])
    summed = _all_reduce(flat, "sum")
    everything = round(float(summed[0]))
    if not everything:
        raise MethodError("no process has seen an example to score units on")
    parts = torch.split(summed[1:] / everything, [mean.numel() for mean in wide])
    return [part.reshape(mean.shape).to(mean.device) for part, mean in zip(parts, wide, strict=True)], everything


def total(values: Tensor) -> Tensor:
    """Return the sum over the processes of `values`, which have one shape and dtype in all of them."""
    return _all_reduce(values.cpu(), "sum").to(values.device) if active() else values


def largest(values: Tensor) -> Tensor:
    """Return the elementwise maximum over the processes of `values`, of one shape and dtype in all of them."""
    return _all_reduce(values.cpu(), "max").to(values.device) if active() else values


def joined_rows(values: Tensor) -> Tensor:
    """Return the rows of all processes, in rank order.

    Parameters
    ----------
    values : Tensor of shape (n, ...)
        n may differ between the processes.

    Returns
    -------
    Tensor of shape (sum of n, ...)
        Of the same dtype, on the same device.
    """
    if not active():
        return values
    rank, n = dist.get_rank(), torch.zeros(dist.get_world_size(), dtype=torch.int64)
    n[rank] = len(values)
    ends = total(n).cumsum(0).tolist()
    rows = torch.zeros((ends[-1], *values.shape[1:]), dtype=values.dtype)
    rows[ends[rank] - len(values) : ends[rank]] = values.cpu()
    return total(rows).to(values.device)


def broadcast_buffers(model: nn.Module) -> None:
    """Copy the buffers of process 0 to every process: BatchNorm statistics, which each took from its own images."""
    if not active():
        return
    for buffer in model.buffers():
        moved = buffer.detach().to(_device())
        dist.broadcast(moved, src=0)
        buffer.data.copy_(moved)


def broadcast_plan(plan: PruningPlan) -> PruningPlan:
    """Return the plan of process 0 in every process; it is sent as JSON.

    Raises
    ------
    PlanError
        In every process: the processes made plans for different networks.
    """
    if not active():
        return plan
    _require_alike(plan.graph, "the processes trace different networks; build and load the same one in each")
    text = plan.model_dump_json().encode()
    size = torch.tensor([len(text)], device=_device())
    dist.broadcast(size, src=0)
    buffer = torch.zeros(int(size), dtype=torch.uint8, device=_device())
    if dist.get_rank() == 0:
        buffer.copy_(torch.tensor(list(text), dtype=torch.uint8))
    dist.broadcast(buffer, src=0)
    return PruningPlan.model_validate_json(bytes(buffer.tolist()))


def _require_alike(text: str, problem: str) -> None:
    # 48 bits are exact in float64.
    number = float(int.from_bytes(hashlib.sha256(text.encode()).digest()[:6]))
    both = _all_reduce(torch.tensor([number, -number], dtype=torch.float64), "max")
    if float(both[0]) != -float(both[1]):
        raise PlanError(problem)


def _all_reduce(values: Tensor, how: str) -> Tensor:
    moved = values.to(_device()).clone()
    dist.all_reduce(moved, op=dist.ReduceOp.MAX if how == "max" else dist.ReduceOp.SUM)
    return moved.cpu()


def _device() -> torch.device:
    """Return the device that the process group's tensors must be on."""
    if "nccl" in str(dist.get_backend()):
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")
