"""`Evidence`: what a criterion may look at, and its batches in a form that the traced network can run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from pruners.errors import MethodError

if TYPE_CHECKING:
    from pruners.graph import Graph
    from pruners.groups import ChannelGroup

__all__ = ["Batch", "Evidence", "Loss", "runnable"]

Batch = tuple[Tensor, Tensor]
Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True, eq=False)
class Evidence:
    """What a criterion may look at. Looking changes neither the network's values nor its gradients.

    Under ``torch.autocast``, opened by the caller, the network runs in the lower precision; scores are still
    accumulated in float32 or float64.

    Parameters
    ----------
    model : Module
        Holds the parameters that the groups' members name.
    graph : Graph
        Trace of the model in its present state.
    groups : tuple of str
        Names of the groups to score.
    batches : sequence of (inputs, labels), optional
        Inputs of shape (batch, ...); moved to the network's device. In a distributed run each process has its own.
    loss : callable, optional
        ``loss(outputs, labels)`` -> scalar Tensor, averaged over the batch.
    seed : int
        Seed for what a criterion draws.
    """

    model: nn.Module
    graph: Graph
    groups: tuple[str, ...]
    batches: Sequence[Batch] = ()
    loss: Loss | None = None
    seed: int = 0

    @property
    def channel_groups(self) -> list[ChannelGroup]:
        """The groups to score."""
        return [self.graph.group(name) for name in self.groups]

    @property
    def weights(self) -> Mapping[str, Tensor]:
        """Parameters by name as the layers read them; see `Graph.weights`."""
        return self.graph.weights()

    def pieces(self, who: str) -> Iterator[Batch]:
        """Yield the batches as the network can run them; see `runnable`."""
        return runnable(self.graph, self.batches, who)


def runnable(graph: Graph, batches: Iterable[Batch], who: str) -> Iterator[Batch]:
    """Move batches to the network's device; split them if the network runs at one batch size only.

    Raises
    ------
    MethodError
        There are no batches, or one is not a multiple of the only batch size.
    """
    tensor = next(iter(graph.module.parameters()), None)
    only = None if graph.dynamic_batch else graph.inputs[0].shape[0]
    empty = True
    for inputs, labels in batches:
        empty = False
        if tensor is not None:
            inputs, labels = inputs.to(tensor.device), labels.to(tensor.device)
        if only is None:
            yield inputs, labels
            continue
        if len(inputs) % only:
            raise MethodError(
                f"{who}: this network runs at the batch size of its example inputs only, {only}; batches of "
                f"{len(inputs)} are not a multiple of it"
            )
        yield from zip(torch.split(inputs, only), torch.split(labels, only), strict=True)
    if empty:
        raise MethodError(f"{who}: there are no batches to score on")
