"""Sample inputs and outputs of layers at random positions, over batches of training data."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from pruners.distributed import active, joined_rows, world_size
from pruners.errors import MethodError
from pruners.graph import Graph
from pruners.importance.evidence import Batch, runnable
from pruners.reconstruct.readers import Call, Reader

__all__ = ["Wanted", "patches", "sample"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Wanted:
    """A value to sample.

    Parameters
    ----------
    graph : Graph
        Trace of the network to run.
    reader : Reader
        The layer; everything wanted for one weight is sampled at the same positions, in every network.
    what : {"inputs", "outputs", "sum", "shortcut"}
        The patches that the layer multiplies with its weight, of shape (rows, in * kernel); its outputs, of shape
        (rows, out); or, at the end of a residual branch, the sum, and what the branch is added to.
    """

    graph: Graph
    reader: Reader
    what: Literal["inputs", "outputs", "sum", "shortcut"]


def sample(
    wanted: Sequence[Wanted], batches: Iterator[Batch], *, images: int, positions: int, seed: int, who: str
) -> list[Tensor]:
    """Run batches through the networks and keep rows at random positions.

    Memory is bounded by ``images * positions`` rows per wanted value, plus one batch's feature maps.

    Parameters
    ----------
    wanted : sequence of Wanted
        Of one network, or of several that take the same inputs.
    batches : iterator of (inputs, labels)
        Whole batches are taken until there are `images` examples.
    images : int
        Number of examples, over all processes.
    positions : int
        Rows per call of a layer and example, on average: drawn uniformly from all positions in a batch, without
        replacement. A layer with one row per example contributes that one.
    seed : int
        Determines the positions.
    who : str
        Name of the caller in messages.

    Returns
    -------
    list of Tensor
        Rows for each of `wanted`, float32 on the CPU; under ``torch.distributed`` of all processes.

    Raises
    ------
    MethodError
        There are no or too few batches, or they do not fit the network's only batch size.
    """
    graphs = list({id(item.graph): item.graph for item in wanted}.values())
    narrow = next((graph for graph in graphs if not graph.dynamic_batch), graphs[0])
    draws = {item.reader.weight: torch.Generator().manual_seed(_seed_of(seed, item.reader.weight)) for item in wanted}
    collected: list[list[Tensor]] = [[] for _ in wanted]
    for inputs, _ in runnable(narrow, _enough(batches, -(-images // world_size()), who), who):
        values = [_values(graph, wanted, inputs) for graph in graphs]
        maps = {id(graph): own for graph, own in zip(graphs, values, strict=True)}
        picked: dict[tuple[str, int], Tensor] = {}
        for item, rows in zip(wanted, collected, strict=True):
            for number, call in enumerate(item.reader.calls):
                name = _node(call, item.what)
                value = maps[id(item.graph)][name]
                key = (item.reader.weight, number)
                if key not in picked:
                    n = _n_rows(value, call, item.what)
                    many = min(n, positions * len(inputs))
                    picked[key] = torch.randperm(n, generator=draws[item.reader.weight])[:many]
                read = patches if item.what == "inputs" else _rows
                rows.append(read(value, call, picked[key].to(value.device)).float().cpu())
    return [joined_rows(torch.cat(rows)) if active() else torch.cat(rows) for rows in collected]


def patches(value: Tensor, call: Call, picks: Tensor) -> Tensor:
    """Return the patches that a layer multiplies with its weight at some of its output positions.

    Parameters
    ----------
    value : Tensor
        Input of the call: (N, C, *space) for a convolution, (..., C) for a linear layer.
    call : Call
        Kernel, stride and padding of the layer that is called.
    picks : Tensor
        Positions of the output, numbered as in a flattened (N, *space), or (...), of the output.

    Returns
    -------
    Tensor
        Shape (picks, C * kernel): a row times a row of the flattened weight is an output, without its bias.
    """
    if not call.kernel:
        return value.reshape(-1, value.shape[-1])[picks]
    where: tuple[Tensor, ...] = torch.unravel_index(picks, _output_shape(value, call))
    padded = F.pad(value, [size for pair in reversed(call.padding) for size in pair])
    rank = len(call.kernel)
    index: list[Any] = [where[0].reshape(-1, *[1] * rank), slice(None)]
    for axis, (start, k, s, d) in enumerate(zip(where[1:], call.kernel, call.stride, call.dilation, strict=True)):
        steps = start[:, None] * s + torch.arange(k, device=picks.device) * d
        index.append(steps.reshape(-1, *[k if a == axis else 1 for a in range(rank)]))
    # Index tensors on both sides of a slice put the slice's axis last.
    return padded[tuple(index)].movedim(-1, 1).flatten(1)


def _rows(value: Tensor, call: Call, picks: Tensor) -> Tensor:
    """Return a value of the output's shape at the same positions: shape (picks, out)."""
    if not call.kernel:
        return value.reshape(-1, value.shape[-1])[picks]
    where: list[Any] = [*torch.unravel_index(picks, (len(value), *value.shape[2:]))]
    return value[(where[0], slice(None), *where[1:])]


def _output_shape(value: Tensor, call: Call) -> tuple[int, ...]:
    return (
        len(value),
        *(
            (size + sum(pair) - d * (k - 1) - 1) // s + 1
            for size, pair, k, s, d in zip(
                value.shape[2:], call.padding, call.kernel, call.stride, call.dilation, strict=True
            )
        ),
    )


def _n_rows(value: Tensor, call: Call, what: str) -> int:
    if not call.kernel:
        return value.numel() // value.shape[-1]
    return math.prod(_output_shape(value, call) if what == "inputs" else (len(value), *value.shape[2:]))


def _node(call: Call, what: str) -> str:
    if what in ("inputs", "outputs"):
        return call.reads if what == "inputs" else call.node
    assert call.branch is not None, "sums and shortcuts are wanted of the ends of branches only"
    return call.branch.addition if what == "sum" else call.branch.shortcut


def _values(graph: Graph, wanted: Sequence[Wanted], inputs: Tensor) -> dict[str, Tensor]:
    """Run a network and return the values that are read from it."""
    names = {_node(call, item.what) for item in wanted if item.graph is graph for call in item.reader.calls}
    seen: dict[str, Tensor] = {}

    def see(name: str, value: Tensor) -> Tensor:
        seen[name] = value
        return value

    with torch.no_grad():
        graph.run((inputs,), {name: partial(see, name) for name in names})
    return seen


def _enough(batches: Iterable[Batch], images: int, who: str) -> Iterator[Batch]:
    n = 0
    for inputs, labels in batches:
        yield inputs, labels
        n += len(inputs)
        if n >= images:
            return
    raise MethodError(f"{who}: the batches ended after {n} of {images} examples")


def _seed_of(seed: int, weight: str) -> int:
    return int.from_bytes(hashlib.blake2b(f"{seed} {weight}".encode(), digest_size=7).digest())
