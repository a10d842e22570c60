"""Mask a network as a plan says: what the compact network is compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from pruners.forms.slicing import tensor_named
from pruners.graph import Graph, trace
from pruners.groups import removed_positions
from pruners.modules.copies import copy_of
from pruners.modules.plain import plain
from pruners.modules.random_inputs import planned_call
from pruners.plan import PruningPlan

__all__ = ["graph_of", "mask", "mask_"]


def mask(model: nn.Module, plan: PruningPlan, *, graph: Graph | None = None) -> nn.Module:
    """Return a copy of `model` in which every removed slice is zero, in producers and consumers.

    In consumers too, because some functions do not map zero to zero (a sigmoid, a shift after the producer).

    Parameters
    ----------
    model : Module
        The network that the plan was made for; not modified.
    graph : Graph, optional
        Its graph; traced again from the plan's inputs if not given.

    Raises
    ------
    PlanError
        The plan was made for another network, or is not legal for it.
    """
    model = plain(model)
    graph = graph_of(model, plan) if graph is None else graph
    graph.check(plan)
    twin = copy_of(model)
    mask_(twin, removed_positions(graph.groups, plan))
    return twin


def graph_of(model: nn.Module, plan: PruningPlan) -> Graph:
    """Return the graph of `model`, traced with inputs as the plan describes them.

    What modules keep from earlier calls is part of a graph. If the plan names another graph, the one returned is that
    of a copy that has run once, if the plan was made for such a network.
    """
    device = next((tensor.device for tensor in model.parameters()), torch.device("cpu"))
    call = planned_call(plan, device=device)
    graph = trace(model, call, policy=plan.policy)
    if graph.fingerprint == plan.graph:
        return graph
    has_run = copy_of(model).eval()
    call(has_run)
    again = trace(has_run, call, policy=plan.policy)
    return again if again.fingerprint == plan.graph else graph


def mask_(module: nn.Module, gone: Mapping[str, Mapping[int, Sequence[int]]]) -> None:
    """Zero the given positions (tensor name -> axis -> positions) of parameters and buffers, in place."""
    with torch.no_grad():
        for path, axes in gone.items():
            tensor = tensor_named(module, path)
            for axis, positions in axes.items():
                tensor.index_fill_(axis, torch.tensor(positions, device=tensor.device), 0)
