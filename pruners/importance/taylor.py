"""First-order Taylor criterion on feature maps (Molchanov et al. 2017, equation 8)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pruners.errors import MethodError
from pruners.importance.scores import Scores, require_finite
from pruners.importance.units import unit_sums

if TYPE_CHECKING:
    from pruners.graph import Graph

__all__ = ["TaylorScores", "gate_gradients", "taylor_scores"]

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaylorScores:
    """Scores and what they were taken from.

    Parameters
    ----------
    scores : dict of str to tuple of float
        One number per unit, not normalised.
    loss : float
        Mean loss of the examples that were seen.
    n_examples : int
        How many those were.
    """

    scores: Scores
    loss: float
    n_examples: int


def taylor_scores(
    graph: Graph, batches: Iterable[tuple[Tensor, Tensor]], loss: Loss, *, groups: Collection[str]
) -> TaylorScores:
    """Score the units of `groups` on `batches`.

    For a feature map ``z`` of unit ``k``, with ``M`` spatial positions and per-example loss ``C_n``::

        score[k] = mean over examples n of | (1/M) * sum_m  dC_n/dz[n,k,m] * z[n,k,m] |

    in this order: mean over positions, absolute value, mean over examples. What the paper leaves open is
    settled so:

    * **Which map.** The end of the element-wise chain of each layer that makes the channels: after BatchNorm and
      activation, before pooling, as the paper's ``z = g * ReLU(w * x + b)``; see `Graph.sites`.
    * **Several maps of one unit** (the branches of a residual stage, before their additions; several channels of one
      unit): one gate stands on all of them, since they go together. The mean is over the positions of all maps,
      before the absolute value, which makes it the first-order change of the loss when the unit goes, over ``M``.
    * **Per-example gradients.** `loss` is a mean over the batch, so each example's gradient comes out divided by the
      batch size; it is multiplied back, and batches of any size give the same score.
    * **Mode.** Evaluation mode: with batch statistics, one example's loss would depend on the others'.

    Parameters
    ----------
    graph : Graph
        Trace of the network in its present state.
    batches : iterable of (inputs, labels)
        Finite; inputs of shape (batch, ...). They are moved to the network's device.
    loss : callable
        ``loss(outputs, labels)`` -> scalar Tensor, averaged over the batch.
    groups : collection of str
        Names of the groups to score.

    Raises
    ------
    MethodError
        There are no batches, a group has no feature map of one example each, the network runs at one batch size only
        and a batch is no multiple of it, or a score is not finite.
    """
    for name in groups:
        if not any(site.axis > 0 for site in graph.sites.get(name, ())):
            raise MethodError(f"taylor: group {name!r} has no feature map that could be scored; exclude it")
    totals: dict[str, Tensor] = {}
    n_examples, loss_sum = 0, 0.0
    for inputs, labels in _pieces(graph, batches):
        mean_loss, gradients = gate_gradients(graph, inputs, labels, loss, groups=groups)
        for name, gradient in gradients.items():
            piece = gradient.abs().sum(0).cpu()
            totals[name] = totals[name] + piece if name in totals else piece
        n_examples += len(inputs)
        loss_sum += mean_loss * len(inputs)
    if not n_examples:
        raise MethodError("taylor: there are no batches to score on")
    scores = {name: tuple((total / n_examples).tolist()) for name, total in totals.items()}
    require_finite(scores, "taylor")
    return TaylorScores(scores=scores, loss=loss_sum / n_examples, n_examples=n_examples)


def gate_gradients(
    graph: Graph, inputs: Tensor, labels: Tensor, loss: Loss, *, groups: Collection[str]
) -> tuple[float, dict[str, Tensor]]:
    """Differentiate each example's loss by a gate on each unit, at gates of one.

    A gate ``g[n, k] = 1`` multiplies the maps ``z[n, k]`` of one example; its gradient is
    ``sum_m dC_n/dz[n,k,m] * z[n,k,m]``, which is divided here by the number of positions ``M`` of the unit's maps.

    Parameters
    ----------
    graph : Graph
        Its parameters' values and gradients are not changed.
    inputs : Tensor of shape (batch, ...)
    labels : Tensor
    loss : callable
        Averaged over the batch.
    groups : collection of str
        Whose units get a gate.

    Returns
    -------
    loss : float
        Mean over the batch.
    gradients : dict of str to Tensor of shape (batch, n_units), float64
        Signed, one for each group.

    Raises
    ------
    MethodError
        A feature map's first axis is not the batch.
    """
    sites = [(name, site) for name in groups for site in graph.sites[name] if site.axis > 0]
    gates: dict[tuple[str, int], Tensor] = {}
    positions: dict[tuple[str, int], int] = {}

    def gated(node: str, value: Tensor) -> Tensor:
        if len(value) != len(inputs):
            raise MethodError(
                f"taylor: the first axis of the feature map {node!r} has {len(value)} entries for {len(inputs)} "
                "examples; exclude the layers that make it"
            )
        for axis in sorted({site.axis for _, site in sites if site.node == node}):
            shape = [size if dim in (0, axis) else 1 for dim, size in enumerate(value.shape)]
            gate = torch.ones(shape, dtype=value.dtype, device=value.device, requires_grad=True)
            gates[node, axis], positions[node, axis] = gate, value.numel() // gate.numel()
            value = value * gate
        return value

    def tap_of(node: str) -> Callable[[Tensor], Tensor]:
        return lambda value: gated(node, value)

    with torch.enable_grad():
        mean_loss = loss(graph.run((inputs,), {site.node: tap_of(site.node) for _, site in sites}), labels)
        slopes = torch.autograd.grad(mean_loss, list(gates.values()), allow_unused=True, materialize_grads=True)
    slope_of = {key: slope.reshape(len(inputs), -1).to(torch.float64) for key, slope in zip(gates, slopes, strict=True)}
    per_unit: dict[str, Tensor] = {}
    for name in groups:
        own = [site for group, site in sites if group == name]
        summed = torch.stack([unit_sums(slope_of[site.node, site.axis], site.indices) for site in own]).sum(0)
        n_positions = sum(positions[site.node, site.axis] * max(map(len, site.indices)) for site in own)
        per_unit[name] = summed * (len(inputs) / n_positions)
    return float(mean_loss.detach()), per_unit


def _pieces(graph: Graph, batches: Iterable[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
    """Move batches to the network's device; cut them where the network runs at one batch size only."""
    tensor = next(iter(graph.module.parameters()), None)
    traced_batch = graph.inputs[0].shape[0]
    for inputs, labels in batches:
        if tensor is not None:
            inputs, labels = inputs.to(tensor.device), labels.to(tensor.device)
        if graph.dynamic_batch:
            yield inputs, labels
            continue
        if len(inputs) % traced_batch:
            raise MethodError(
                f"taylor: this network runs at the batch size of its example inputs only, {traced_batch}; batches of "
                f"{len(inputs)} are no multiple of it"
            )
        yield from zip(torch.split(inputs, traced_batch), torch.split(labels, traced_batch), strict=True)
