"""Gates on feature maps: a factor of 1 per example and unit, to differentiate the loss with respect to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pruners.errors import MethodError
from pruners.importance.criterion import Criterion
from pruners.importance.evidence import Evidence, Loss
from pruners.importance.reduce import MemberScores

if TYPE_CHECKING:
    from pruners.channels.sites import Site
    from pruners.graph import Graph
    from pruners.groups import ChannelGroup

__all__ = [
    "GateRow",
    "Gates",
    "MapCriterion",
    "draw_signs",
    "gate_rows",
    "member_scores_of",
    "opened",
    "twice_differentiable",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class GateRow:
    """A gate for each unit of a group, on one or more of the group's feature maps.

    Parameters
    ----------
    group : str
        Name of the group.
    n_units : int
        Number of its units, and of gates for each example.
    sites : tuple of Site
        Maps that the gates act on together.
    """

    group: str
    n_units: int
    sites: tuple[Site, ...]

    @property
    def present(self) -> tuple[bool, ...]:
        """Which units have a channel in these maps."""
        return tuple(any(site.indices[unit] for site in self.sites) for unit in range(self.n_units))


_NO_MAPS = "has no feature map that could be scored"


class MapCriterion(Criterion):
    """A criterion on the feature maps of a group."""

    def lacks(self, evidence: Evidence, group: ChannelGroup) -> str:
        """Return that a group has no feature map with a batch axis; empty if it has one."""
        return "" if _maps(evidence.graph, group.name) else _NO_MAPS


def _maps(graph: Graph, group: str) -> tuple[Site, ...]:
    return tuple(site for site in graph.sites.get(group, ()) if site.axis != site.examples)


def gate_rows(graph: Graph, groups: Sequence[str], who: str, *, joint: bool) -> tuple[GateRow, ...]:
    """Return the rows of gates: one for all maps of a group if `joint`, else one for each map.

    Raises
    ------
    MethodError
        A group has no feature map with a batch axis.
    """
    rows = []
    for name in groups:
        sites = _maps(graph, name)
        if not sites:
            raise MethodError(f"{who}: group {name!r} {_NO_MAPS}; exclude it")
        together = (sites,) if joint else tuple((site,) for site in sites)
        rows += [GateRow(group=name, n_units=graph.group(name).n_units, sites=some) for some in together]
    return tuple(rows)


@dataclass(frozen=True, kw_only=True, eq=False)
class Gates:
    """One run of a network with open gates.

    Parameters
    ----------
    rows : tuple of GateRow
        The rows of gates.
    leaf : Tensor of shape (batch, gates of all rows)
        The gates, all one; float32, or float64 for a float64 network.
    loss : Tensor
        **Sum** over the examples, so that the derivative with respect to an example's gate is that of the example's own
        loss.
    mean_loss : float
        Over the batch.
    positions : tuple of int
        For each row, the number of positions of one unit's maps.
    """

    rows: tuple[GateRow, ...]
    leaf: Tensor
    loss: Tensor
    mean_loss: float
    positions: tuple[int, ...]

    def slopes(self, *, create_graph: bool = False) -> Tensor:
        """Differentiate each example's loss with respect to its gates; the result has the shape of `leaf`."""
        (slopes,) = torch.autograd.grad(
            self.loss, [self.leaf], create_graph=create_graph, allow_unused=True, materialize_grads=True
        )
        return slopes

    def by_row(self, values: Tensor) -> list[Tensor]:
        """Split values of shape (batch, gates of all rows) into one float64 Tensor (batch, n_units) for each row."""
        return list(torch.split(values.to(torch.float64), [row.n_units for row in self.rows], dim=1))


def opened(graph: Graph, inputs: Tensor, labels: Tensor, loss: Loss, rows: Sequence[GateRow], who: str) -> Gates:
    """Run the network in evaluation mode with a gate of one on every map of `rows`.

    A gate multiplies all positions of a unit's maps for one example; since it is 1, values do not change.

    Parameters
    ----------
    graph : Graph
        Its parameters' values and gradients are not changed.
    inputs : Tensor of shape (batch, ...)
    labels : Tensor
    loss : callable
        Averaged over the batch.
    rows : sequence of GateRow
        From `gate_rows`.
    who : str
        Names the criterion in messages.

    Raises
    ------
    MethodError
        A feature map has no axis of the batch's size, or the loss has no derivative.
    """
    n_gates = sum(row.n_units for row in rows)
    wide = any(tensor.dtype == torch.float64 for tensor in graph.module.parameters())
    # A constant appended to the gates, for channels that are in no row.
    ones = torch.ones(len(inputs), 1, dtype=torch.float64 if wide else torch.float32, device=inputs.device)
    leaf = ones.expand(-1, n_gates).clone().requires_grad_()
    positions = [0] * len(rows)
    stands: dict[tuple[str, int], list[tuple[int, int, Site]]] = {}
    start = 0
    for number, row in enumerate(rows):
        for site in row.sites:
            stands.setdefault((site.node, site.axis_behind_examples), []).append((number, start, site))
        start += row.n_units

    front = {site.node: site.examples for row in rows for site in row.sites}

    def gated(node: str, value: Tensor) -> Tensor:
        value = value.movedim(front[node], 0)
        if len(value) != len(inputs):
            raise MethodError(
                f"{who}: the first axis of the feature map {node!r} has {len(value)} entries for {len(inputs)} "
                "examples; exclude the layers that make it"
            )
        for axis in sorted(axis for name, axis in stands if name == node):
            owner = torch.full((value.shape[axis],), n_gates)
            for number, first, site in stands[node, axis]:
                for unit, channels in enumerate(site.indices):
                    owner[list(channels)] = first + unit
                per_channel = value.numel() // len(value) // value.shape[axis]
                positions[number] += per_channel * max(map(len, site.indices))
            gate = torch.cat([leaf, ones], 1).index_select(1, owner.to(value.device))
            shape = [size if dim in (0, axis) else 1 for dim, size in enumerate(value.shape)]
            # In half precision the product is formed, and later summed for the slope, in the gates' own precision.
            value = (value * gate.reshape(shape)).to(value.dtype)
        return value.movedim(0, front[node])

    with torch.enable_grad():
        outputs = graph.run((inputs,), {node: partial(gated, node) for node, _ in stands})
        mean_loss = loss(outputs, labels)
        if not mean_loss.requires_grad:
            raise MethodError(
                f"{who}: the loss has no derivative by the feature maps; hand in one that autograd follows"
            )
        return Gates(
            rows=tuple(rows),
            leaf=leaf,
            loss=mean_loss * len(inputs),
            mean_loss=float(mean_loss.detach()),
            positions=tuple(positions),
        )


@contextmanager
def twice_differentiable() -> Iterator[None]:
    """Run attention by its plain formula: its fused kernels have no second derivative."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    with sdpa_kernel(SDPBackend.MATH):
        yield


def draw_signs(like: Tensor, generator: torch.Generator) -> Tensor:
    """Draw -1 and 1 evenly in the shape, dtype and device of `like`; one seed gives the same signs on every device."""
    drawn = torch.randint(0, 2, tuple(like.shape), generator=generator)
    return (2 * drawn - 1).to(like.device, like.dtype)


def member_scores_of(rows: Sequence[GateRow], values: Sequence[Tensor]) -> MemberScores:
    """Collect values of shape (n_units,), one for each row, into member scores."""
    scores: MemberScores = {}
    for row, scored in zip(rows, values, strict=True):
        own = tuple(value if there else None for value, there in zip(scored.tolist(), row.present, strict=True))
        scores[row.group] = (*scores.get(row.group, ()), own)
    return scores
