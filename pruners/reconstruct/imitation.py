"""Target outputs for a layer of a smaller network, so that the network computes what the dense one does."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from pruners.errors import MethodError
from pruners.forms.slicing import Positions
from pruners.graph import Graph
from pruners.groups import removed_positions
from pruners.plan import PruningPlan
from pruners.reconstruct.readers import Reader, reader_named
from pruners.reconstruct.samples import Wanted

__all__ = ["Imitation", "imitation_of", "positions_of"]

_WEAK = 1e-3
"""Scale of a BatchNorm, relative to its largest, below which a channel is not used to compensate for a shortcut."""


@dataclass(frozen=True, eq=False)
class Imitation:
    """A layer of the smaller network, and what it imitates.

    Parameters
    ----------
    reader : Reader
        The layer, in the smaller network.
    wanted : tuple of Wanted
        Values to sample: the inputs of the smaller network's layer, the outputs of the dense one's, and, at the end of
        a residual branch, the dense network's sum and the smaller network's shortcut.
    removed : sequence of int
        Outputs of the dense network's layer that the smaller one lacks.
    masked : Mapping of int to sequence of int
        Outputs (axis 0 of the weight) and input channels (axis 1) of the smaller network's layer that are masked.
    """

    reader: Reader
    wanted: tuple[Wanted, ...]
    removed: Sequence[int]
    masked: Positions

    def inputs(self, rows: Sequence[Tensor]) -> Tensor:
        """Return the layer's inputs, of shape (rows, in * kernel), from the samples of `wanted`: 0 where masked."""
        if 1 not in self.masked:
            return rows[0]
        (call, *_), n_columns = self.reader.calls, rows[0].shape[1]
        kernel = math.prod(call.kernel)
        columns = torch.zeros(n_columns // kernel, dtype=torch.bool)
        columns[list(self.masked[1])] = True
        return rows[0].masked_fill(columns.repeat_interleave(kernel), 0.0)

    def target(self, rows: Sequence[Tensor]) -> Tensor:
        """Return the layer's target outputs, of shape (rows, out) in float64, from the samples of `wanted`.

        The outputs of the dense network's layer; at the end of a residual branch ``Y1 - Y1' + Y2``, the dense network's
        shortcut and branch minus the smaller network's shortcut. If a BatchNorm follows the layer, the difference is
        mapped back through the smaller network's. 0 where masked.
        """
        target = self._target(rows)
        target[:, list(self.masked.get(0, ()))] = 0.0
        return target

    def _target(self, rows: Sequence[Tensor]) -> Tensor:
        stay = torch.ones(rows[1].shape[1], dtype=torch.bool)
        stay[list(self.removed)] = False
        outputs = rows[1][:, stay].double()
        if len(rows) == 2:
            return outputs
        branch = rows[2][:, stay].double() - rows[3].double()
        (call,) = self.reader.calls
        if call.branch is None or call.branch.norm is None:
            return branch
        scale, shift = _affine(self.wanted[0].graph, call.branch.norm)
        strong = scale.abs() > _WEAK * scale.abs().max()
        return torch.where(strong, (branch - shift) / torch.where(strong, scale, 1.0), outputs)


def imitation_of(
    dense: Graph,
    present: Graph,
    reader: Reader,
    *,
    gone: PruningPlan | None = None,
    masked: PruningPlan | None = None,
    residual: bool = True,
) -> Imitation:
    """Return what a layer of the smaller network `present` imitates.

    Parameters
    ----------
    dense, present : Graph
        Traces of the dense and of the smaller network.
    reader : Reader
        The layer in the smaller network.
    gone : PruningPlan, optional
        What the smaller network has lost, relative to the dense one.
    masked : PruningPlan, optional
        What is masked in the smaller network, relative to it.
    residual : bool
        Whether the end of a residual branch compensates for what the shortcut lost.

    Raises
    ------
    MethodError
        The dense network uses the weight differently.
    """
    theirs = reader_named(dense, reader.weight)
    if theirs is None or len(theirs.calls) != len(reader.calls):
        raise MethodError(
            f"{reader.weight!r} is not a weight of the same layer in the dense and in the smaller network"
        )
    wanted = [
        Wanted(graph=present, reader=reader, what="inputs"),
        Wanted(graph=dense, reader=theirs, what="outputs"),
    ]
    if residual and len(reader.calls) == 1 and reader.calls[0].branch and theirs.calls[0].branch:
        wanted.append(Wanted(graph=dense, reader=theirs, what="sum"))
        wanted.append(Wanted(graph=present, reader=reader, what="shortcut"))
    return Imitation(
        reader=reader,
        wanted=tuple(wanted),
        removed=positions_of(dense, gone, reader.weight).get(0, ()),
        masked=positions_of(present, masked, reader.weight),
    )


def positions_of(graph: Graph, plan: PruningPlan | None, path: str) -> Positions:
    """Return the positions of a tensor that a plan for `graph` removes, for each axis that loses some."""
    return {} if plan is None else removed_positions(graph.groups, plan).get(path, {})


def _affine(graph: Graph, norm: fx.Node) -> tuple[Tensor, Tensor]:
    """Return scale and shift of a BatchNorm in evaluation: float64, on the CPU."""

    def value(node: object, default: float) -> Tensor:
        if not isinstance(node, fx.Node):
            return torch.tensor(default, dtype=torch.float64)
        tensor: Tensor = operator.attrgetter(str(node.target))(graph.module)
        return tensor.detach().double().cpu()

    weight, bias, mean, variance, eps = (norm.args[place] for place in (1, 2, 3, 4, 7))
    assert isinstance(eps, float)
    scale = value(weight, 1.0) / (value(variance, 1.0) + eps).sqrt()
    return scale, value(bias, 0.0) - value(mean, 0.0) * scale
