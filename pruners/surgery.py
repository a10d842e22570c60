"""Make a network smaller, or mask it, as a plan says. Works on copies of the user's own module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

from pruners.errors import NothingToPruneError
from pruners.groups import ChannelGroup
from pruners.module_form import copy_of, resize_
from pruners.plan import PruningPlan
from pruners.slicing import tensor_named

if TYPE_CHECKING:
    from pruners.graph import Graph

__all__ = ["apply", "graph_of", "mask", "mask_", "removed_positions"]


def mask(model: nn.Module, plan: PruningPlan, *, graph: Graph | None = None) -> nn.Module:
    """Return a copy of `model` in which every removed slice is zero, of producers and of consumers.

    Consumers too, as some functions do not map zero to zero (a sigmoid, a shift after the producer).

    Parameters
    ----------
    model : Module
        The network that the plan was made for; not modified.
    graph : Graph, optional
        Its graph; traced again from the plan's inputs when missing.

    Raises
    ------
    PlanError
        The plan was made for another network, or is not legal for it.
    """
    graph = graph_of(model, plan) if graph is None else graph
    graph.check(plan)
    twin = copy_of(model)
    mask_(twin, removed_positions(graph.groups, plan))
    return twin


def apply(model: nn.Module, plan: PruningPlan, *, graph: Graph | None = None, check: bool = True) -> nn.Module:
    """Return a compact copy of `model`.

    Parameters
    ----------
    model : Module
        The network that the plan was made for; not modified.
    graph : Graph, optional
        Its graph; traced again from the plan's inputs when missing.
    check : bool, default=True
        Whether to run `pruners.verify.verify` on the result.

    Returns
    -------
    Module
        Of the same class, with the same hooks, names and mode.

    Raises
    ------
    PlanError
        The plan was made for another network, or is not legal for it.
    NothingToPruneError
        The plan removes nothing.
    SurgeryError
        The module can not be copied or resized.
    VerificationError
        `check` is on and masked and compact network differ, or the comparison says nothing.
    """
    if not plan.removed_units:
        raise NothingToPruneError("the plan removes nothing")
    graph = graph_of(model, plan) if graph is None else graph
    graph.check(plan)
    twin = copy_of(model)
    resize_(twin, removed_positions(graph.groups, plan))
    if check:
        from pruners.verify import verify

        verify(model, plan, twin, graph=graph)
    return twin


def graph_of(model: nn.Module, plan: PruningPlan) -> Graph:
    """Trace `model` with inputs as the plan describes them."""
    from pruners.graph import trace
    from pruners.inputs import random_inputs

    device = next((tensor.device for tensor in model.parameters()), torch.device("cpu"))
    return trace(model, random_inputs(plan.inputs, device=device))


def removed_positions(groups: Sequence[ChannelGroup], plan: PruningPlan) -> dict[str, dict[int, list[int]]]:
    """Return the positions that a plan removes: tensor name -> axis -> ascending positions."""
    gone: dict[str, dict[int, list[int]]] = {}
    for group in groups:
        removed = plan.removed(group.name)
        for member in group.members if removed else ():
            axes = gone.setdefault(member.path, {})
            axes.setdefault(member.axis, []).extend(p for unit in removed for p in member.indices[unit])
    return {path: {axis: sorted(where) for axis, where in axes.items()} for path, axes in gone.items()}


def mask_(module: nn.Module, gone: Mapping[str, Mapping[int, Sequence[int]]]) -> None:
    """Zero the given positions of named tensors in place."""
    with torch.no_grad():
        for path, axes in gone.items():
            tensor = tensor_named(module, path)
            for axis, positions in axes.items():
                tensor.index_fill_(axis, torch.tensor(positions, device=tensor.device), 0)
