"""`WeightTask`: input of the decision which single weights are set to zero."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from pruners.graph import Graph, trace
from pruners.task import PruningTask
from pruners.weights.decide import WeightBudget, keep_by_ratios, keep_largest
from pruners.weights.layers import Scope, WeightLayer, weight_layers

__all__ = ["WeightTask", "weight_task"]


@dataclass(frozen=True, kw_only=True, eq=False)
class WeightTask:
    """Input of the decision which weights are set to zero.

    Parameters
    ----------
    task : PruningTask
        The user's task.
    graph : Graph
        Trace of the task's network.
    layers : tuple of WeightLayer
        Layers whose weights may be set to zero.
    budget : WeightBudget or None
        None with a target of ratios.
    scope : {"global", "local", "lamp"}
        See `pruners.weights.decide.keep_largest`.
    """

    task: PruningTask
    graph: Graph
    layers: tuple[WeightLayer, ...]
    budget: WeightBudget | None
    scope: Scope

    @property
    def names(self) -> list[str]:
        """Paths of the layers."""
        return [layer.name for layer in self.layers]

    def copy(self) -> nn.Module:
        """Return a copy of the task's network."""
        return self.task.copy()

    def keep(self, weights: Mapping[str, Tensor], limit: float | None = None) -> dict[str, Tensor]:
        """Choose the weights that stay: by the ratios, or to meet `limit` (default: the target's).

        Parameters
        ----------
        weights : Mapping of str to Tensor
            The weight of each layer, by the layer's name, of any shape and floating type.
        limit : float, optional
            Largest cost of the network.

        Returns
        -------
        dict of str to Tensor
            For each layer a mask of the weight's shape, dtype bool: True where a weight stays.
        """
        if self.budget is None:
            return keep_by_ratios(weights, self.task.target.ratios)
        return keep_largest(weights, self.budget, self.budget.limit if limit is None else limit, self.scope)


def weight_task(task: PruningTask, kinds: Literal["all", "convolutions"], scope: Scope) -> WeightTask:
    """Trace the task's network and list the layers whose weights may be set to zero.

    Raises
    ------
    TraceError
        The network cannot be traced.
    SelectorError, NothingToPruneError
        A pattern of ``exclude`` matches no layer, or no layer is left.
    TargetError
        The target counts something other than weights, or is out of reach.
    """
    graph = trace(task.model, task.example_inputs)
    layers = weight_layers(task.model, graph, kinds, task.constraints.exclude)
    budget = None if task.target.of == "ratios" else WeightBudget(layers, task.target, graph)
    return WeightTask(task=task, graph=graph, layers=layers, budget=budget, scope=scope)
