"""Bias folding: the mean contribution of removed channels is added to the biases of the layers that read them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pruners.distributed import reduce_means
from pruners.errors import MethodError
from pruners.forms.masking import graph_of
from pruners.forms.slicing import tensor_named
from pruners.groups import removed_positions
from pruners.importance.evidence import runnable
from pruners.reconstruct.readers import Call, Reader, layers_among, norm_behind, parameters_behind

if TYPE_CHECKING:
    from pruners.graph import Graph
    from pruners.plan import PruningPlan

__all__ = ["BiasFolding", "FoldedBias", "fold_bias"]

_WHO = "bias folding"
_CONVOLVE = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldedBias:
    """A layer that lost inputs.

    Parameters
    ----------
    weight : str
        Name of its weight.
    into : str
        Name of the tensor that absorbed their mean: its bias, or the running mean of the BatchNorm behind it.
    shift : float
        Mean absolute shift of its outputs.
    """

    weight: str
    into: str
    shift: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BiasFolding:
    """What was folded.

    Parameters
    ----------
    layers : tuple of FoldedBias
        In the order of the network.
    left : tuple of str
        Weights that lost inputs and have neither a bias of their own nor a BatchNorm behind them, or do not belong to a
        plain convolution or linear layer.
    examples : int
        Number of examples the means are taken over, across all processes.
    lr : None
        Learning rate: no weight is trained.
    """

    layers: tuple[FoldedBias, ...]
    left: tuple[str, ...]
    examples: int
    lr: None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def fold_bias(
    dense: nn.Module,
    compact: nn.Module,
    plan: PruningPlan,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    n_batches: int = 16,
) -> BiasFolding:
    """Add the mean contribution of removed channels to the layers that read them, in place.

    A channel whose filter is almost zero still outputs a constant: its bias, or the shift of its BatchNorm, through the
    activation. Cutting it removes that constant; here it becomes part of the next layer's bias. For constant channels
    this is exact except at zero-padded borders; for others the varying part stays lost. Each layer's mean is that of
    the dense network, taken in one pass over the batches. Least squares fit the same and more
    (`pruners.recover.reconstruct`): use one of the two.

    Parameters
    ----------
    dense : Module
        The network that `plan` was made for; not modified.
    compact : Module
        Cut by `plan`, from `dense` or from a trained copy. Biases of plain convolutions and linear layers are changed,
        or, where they have none, the running mean of the BatchNorm behind them.
    plan : PruningPlan
        The plan `compact` was cut by.
    batches : iterable of (inputs, labels)
        Of the training data.
    n_batches : int
        Maximum number of batches.

    Raises
    ------
    PlanError
        The plan was made for another network.
    MethodError
        There are no batches, or no layer that lost inputs can absorb a constant.
    """
    if n_batches < 1:
        raise MethodError(f"{_WHO}: means are taken over 1 batch or more, got n_batches={n_batches}")
    graph = graph_of(dense, plan)
    graph.check(plan)
    gone, dropped = removed_positions(graph.groups, plan), graph.dropped(plan)
    readers, left = layers_among(graph, (path for path in parameters_behind(graph, plan) if path not in dropped))
    sinks = {reader.weight: sink for reader in readers if (sink := _sink(graph, reader))}
    if not sinks:
        raise MethodError(f"{_WHO}: no layer that lost inputs has a bias or a BatchNorm behind it")
    lost = [
        _Lost.of(reader, sinks[reader.weight], tensor_named(dense, reader.weight).detach(), gone[reader.weight])
        for reader in readers
        if reader.weight in sinks
    ]
    examples = 0
    taps = _taps(lost)
    with torch.no_grad():
        for inputs, _ in runnable(graph, islice(batches, n_batches), _WHO):
            graph.run((inputs,), taps)
            examples += len(inputs)
        means, examples = reduce_means([one.mean() for one in lost], examples)
        for one, mean in zip(lost, means, strict=True):
            into = tensor_named(compact, one.into)
            sign = 1 if one.into == one.reader.bias else -1  # a running mean is subtracted
            into.add_(sign * mean.to(into))
    return BiasFolding(
        layers=tuple(
            FoldedBias(weight=one.reader.weight, into=one.into, shift=float(mean.abs().mean()))
            for one, mean in zip(lost, means, strict=True)
        ),
        left=(*(reader.weight for reader in readers if reader.weight not in sinks), *left),
        examples=examples,
    )


@dataclass(eq=False, slots=True)
class _Lost:
    """Output of a layer of the dense network for the inputs that it loses, summed over positions."""

    reader: Reader
    into: str
    inputs: Tensor
    weight: Tensor
    total: Tensor
    positions: int = 0

    @classmethod
    def of(cls, reader: Reader, into: str, weight: Tensor, gone: Mapping[int, Sequence[int]]) -> _Lost:
        stay = torch.ones(len(weight), dtype=torch.bool)
        stay[list(gone.get(0, ()))] = False
        inputs = torch.tensor(gone[1], device=weight.device)
        own = weight[stay.to(weight.device)].index_select(1, inputs)
        return cls(reader, into, inputs, own, torch.zeros(len(own), dtype=torch.float64, device=weight.device))

    def see(self, call: Call, value: Tensor) -> None:
        if call.kernel:
            read = F.pad(value.index_select(1, self.inputs), [n for pair in reversed(call.padding) for n in pair])
            convolve = _CONVOLVE[len(call.kernel)]
            given = convolve(read, self.weight, stride=call.stride, dilation=call.dilation).movedim(1, -1)
        else:
            given = F.linear(value.index_select(-1, self.inputs), self.weight)
        rows = given.reshape(-1, len(self.weight))
        self.total += rows.sum(0, dtype=torch.float64)
        self.positions += len(rows)

    def mean(self) -> Tensor:
        return self.total / self.positions


def _sink(graph: Graph, reader: Reader) -> str | None:
    """Return the name of the bias or running mean that can absorb a constant of the layer's output."""
    if reader.bias is not None:
        return None if reader.shared_bias else reader.bias
    return norm_behind(graph, reader.calls[0]) if len(reader.calls) == 1 else None


def _taps(lost: Sequence[_Lost]) -> dict[str, Any]:
    """Have each layer see what it reads; several may read one value."""
    seen: dict[str, list[tuple[_Lost, Call]]] = {}
    for one in lost:
        for call in one.reader.calls:
            seen.setdefault(call.reads, []).append((one, call))

    def show(readers: Sequence[tuple[_Lost, Call]], value: Tensor) -> Tensor:
        for one, call in readers:
            one.see(call, value)
        return value

    return {name: partial(show, readers) for name, readers in seen.items()}
