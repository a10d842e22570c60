"""Which weights can be set to zero, and how many multiply-accumulates each of them takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import prod
from typing import TYPE_CHECKING, Literal, TypeAlias

from torch import Tensor, nn

from pruners.errors import NothingToPruneError, SelectorError

if TYPE_CHECKING:
    from pruners.graph import Graph

__all__ = ["Scope", "WeightLayer", "weight_layers"]

Scope: TypeAlias = Literal["global", "local", "lamp"]
"""What weights are compared with: all weights, those of their layer, or all weights by LAMP score."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightLayer:
    """The weight of one layer.

    Parameters
    ----------
    name : str
        Path of the module.
    n_weights : int
        Elements of its ``weight``.
    macs_each : float
        Multiply-accumulates per element, for one example.
    """

    name: str
    n_weights: int
    macs_each: float

    def weight(self, model: nn.Module) -> Tensor:
        """Return the weight in `model`."""
        return model.get_parameter(f"{self.name}.weight")


def weight_layers(
    model: nn.Module, graph: Graph, kinds: Literal["all", "convolutions"], exclude: Sequence[str] = ()
) -> tuple[WeightLayer, ...]:
    """List the convolutions and linear layers whose weights may be set to zero, in the network's order.

    Parameters
    ----------
    graph : Graph
        Trace of `model`.
    kinds : {"all", "convolutions"}
        "convolutions" leaves the linear layers whole, as Liu et al. 2019 do.
    exclude : sequence of str
        Patterns (``fnmatch``) of layer names that stay whole.

    Raises
    ------
    SelectorError
        A pattern matches no layer.
    NothingToPruneError
        No layer is left.
    """
    macs = _macs_by_weight(graph)
    types = (nn.modules.conv._ConvNd,) if kinds == "convolutions" else (nn.modules.conv._ConvNd, nn.Linear)
    layers = [
        WeightLayer(name=name, n_weights=layer.weight.numel(), macs_each=macs[f"{name}.weight"] / layer.weight.numel())
        for name, layer in model.named_modules()
        if isinstance(layer, types) and f"{name}.weight" in macs
    ]
    for pattern in exclude:
        if not any(fnmatchcase(layer.name, pattern) for layer in layers):
            raise SelectorError(
                f"pattern {pattern!r} matches no convolution or linear layer; there are "
                f"{', '.join(layer.name for layer in layers)}"
            )
    left = tuple(layer for layer in layers if not any(fnmatchcase(layer.name, pattern) for pattern in exclude))
    if not left:
        raise NothingToPruneError("every layer with weights is excluded, or the network has no such layer")
    return left


def _macs_by_weight(graph: Graph) -> dict[str, float]:
    """Add up the multiply-accumulates of one example over all uses of each weight, by the weight's name."""
    nodes = {node.name: node for node in graph.module.graph.nodes}
    macs_of: dict[str, float] = {}
    for term in graph.grouping.walk.mac_terms:
        macs = prod(value.shape[axis] for value, axis in term.axes) / graph.program.batch
        for item in nodes[term.node].all_input_nodes:
            name = graph.program.tensors.get(str(item.target)) if item.op == "get_attr" else None
            if name is not None and name.endswith(".weight"):
                macs_of[name] = macs_of.get(name, 0.0) + macs
    return macs_of
