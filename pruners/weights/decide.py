"""Choose the weights that stay: the largest ones within a budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from math import floor
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pruners.errors import SelectorError, TargetError
from pruners.target import Target
from pruners.weights.layers import Scope, WeightLayer

if TYPE_CHECKING:
    from pruners.graph import Graph

__all__ = ["WeightBudget", "keep_by_ratios", "keep_largest"]


class WeightBudget:
    """Limit on the total cost of the non-zero weights.

    Parameters
    ----------
    layers : sequence of WeightLayer
        Layers whose weights may be set to zero.
    target : Target
        Of "params" (non-zero parameters), "flops" or "macs" (those of non-zero weights: what a runtime that skips every
        zero would compute).
    graph : Graph
        Trace of the dense network.

    Raises
    ------
    TargetError
        The target counts something else, or what cannot be set to zero costs more.
    """

    def __init__(self, layers: Sequence[WeightLayer], target: Target, graph: Graph) -> None:
        if target.of not in ("params", "flops", "macs"):
            raise TargetError(
                f"a method that sets single weights to zero counts params, flops or macs; got a target of {target.of}"
            )
        by_parameters = target.of == "params"
        self.each = {layer.name: 1.0 if by_parameters else layer.macs_each for layer in layers}
        self.dense = float(graph.parameters() if by_parameters else graph.macs())
        self.prunable = sum(layer.n_weights * self.each[layer.name] for layer in layers)
        self.limit = target.kept_fraction * self.dense
        fixed = self.dense - self.prunable + sum(self.each.values())  # one weight stays in each layer
        if self.limit < fixed:
            raise TargetError(
                f"a target of {target.kept_fraction:g} of {target.of} is out of reach: with one weight in each layer "
                f"{fixed / self.dense:.3g} is left"
            )

    def cost(self, kept: Mapping[str, int]) -> float:
        """Return the cost of a network that keeps `kept` weights of each layer."""
        return self.dense - self.prunable + sum(self.each[name] * count for name, count in kept.items())


def keep_largest(weights: Mapping[str, Tensor], budget: WeightBudget, limit: float, scope: Scope) -> dict[str, Tensor]:
    """Keep the largest weights whose cost meets `limit`, at least one in each layer.

    ======= ====================================================================================================
    global  one threshold on ``|w|`` for all layers
    local   the same share of each layer
    lamp    one threshold on ``w^2 / sum of the squares of the layer's weights that are not smaller`` (Lee 2021)
    ======= ====================================================================================================

    Parameters
    ----------
    weights : Mapping of str to Tensor
        By layer; zeros go first.
    limit : float
        At least the cost with one weight in each layer.

    Returns
    -------
    dict of str to Tensor
        True where a weight stays. Of equal weights, those nearer the end of the network are removed first.
    """
    if scope == "local":
        share = (limit - budget.dense + budget.prunable) / budget.prunable
        return {
            name: _largest(weight, max(1, floor(share * weight.numel() + 1e-9))) for name, weight in weights.items()
        }
    scores = [
        _lamp(weight) if scope == "lamp" else weight.detach().abs().double().flatten() for weight in weights.values()
    ]
    for one in scores:
        one[one.argmax()] = torch.inf
    joined = torch.cat([one.cpu() for one in scores])
    each = torch.cat(
        [torch.full((one.numel(),), budget.each[name]).double() for name, one in zip(weights, scores, strict=True)]
    )
    order = torch.argsort(joined, descending=True, stable=True)
    spent = budget.dense - budget.prunable + each[order].cumsum(0)
    keep = torch.zeros(joined.numel(), dtype=torch.bool)
    keep[order[spent <= limit * (1 + 1e-12)]] = True
    parts = torch.split(keep, [one.numel() for one in scores])
    return {
        name: part.reshape(weight.shape).to(weight.device)
        for (name, weight), part in zip(weights.items(), parts, strict=True)
    }


def keep_by_ratios(weights: Mapping[str, Tensor], ratios: Mapping[str, float]) -> dict[str, Tensor]:
    """Keep ``floor(n * (1 - ratio))`` weights of each layer that a pattern names, and all of the others.

    Raises
    ------
    SelectorError
        A pattern matches no layer.
    """
    for pattern in ratios:
        if not any(fnmatchcase(name, pattern) for name in weights):
            raise SelectorError(f"pattern {pattern!r} matches no layer; there are {', '.join(weights)}")
    kept = {}
    for name, weight in weights.items():
        removed = [ratio for pattern, ratio in ratios.items() if fnmatchcase(name, pattern)]
        count = floor(weight.numel() * (1 - removed[-1]) + 1e-9) if removed else weight.numel()
        kept[name] = _largest(weight, max(1, count))
    return kept


def _largest(weight: Tensor, count: int) -> Tensor:
    keep = torch.zeros(weight.numel(), dtype=torch.bool, device=weight.device)
    keep[torch.argsort(weight.detach().abs().flatten(), descending=True, stable=True)[:count]] = True
    return keep.reshape(weight.shape)


def _lamp(weight: Tensor) -> Tensor:
    squares, order = weight.detach().double().square().flatten().sort(descending=True, stable=True)
    scores = torch.empty_like(squares)
    scores[order] = squares / squares.cumsum(0).clamp(min=torch.finfo(torch.float64).tiny)
    return scores
