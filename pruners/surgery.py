"""Make a network smaller, or mask it, as a plan says. Works on copies of the user's own module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

from pruners.errors import NothingToPruneError
from pruners.forms.slicing import tensor_named
from pruners.groups import ChannelGroup
from pruners.modules.copies import copy_of
from pruners.plan import PruningPlan

if TYPE_CHECKING:
    from pruners.forms.forms import Form
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


def apply(
    model: nn.Module, plan: PruningPlan, *, graph: Graph | None = None, check: bool = True, form: Form = "auto"
) -> nn.Module:
    """Return a compact copy of `model`.

    Two forms are made and compared at two batch sizes: the user's own module with smaller tensors, and a program cut
    from the exported graph, which always exists.

    Parameters
    ----------
    model : Module
        The network that the plan was made for; not modified.
    graph : Graph, optional
        Its graph; traced again from the plan's inputs when missing.
    check : bool, default=True
        Whether to run `pruners.verify.verify` on the result.
    form : {"auto", "module", "graph"}
        ``"auto"``: the user's own module where the two agree, else the graph form, whose `reason` says why.
        ``"module"``: the user's own module, or an error. ``"graph"``: the graph form.

    Returns
    -------
    Module
        Of the same class, with the same hooks, names and mode; or a `pruners.forms.graph_network.GraphNetwork`.

    Raises
    ------
    PlanError
        The plan was made for another network, or is not legal for it.
    NothingToPruneError
        The plan removes nothing.
    SurgeryError
        ``form="module"``, and the module's own code does not let it shrink.
    VerificationError
        `check` is on and masked and compact network differ, or the comparison says nothing.
    """
    from pruners.forms.forms import compact_network

    if not plan.removes:
        raise NothingToPruneError("the plan removes nothing")
    graph = graph_of(model, plan) if graph is None else graph
    graph.check(plan)
    compact = compact_network(model, plan, graph, removed_positions(graph.groups, plan), form)
    if check:
        from pruners.verify import verify

        verify(model, plan, compact, graph=graph)
    return compact


def graph_of(model: nn.Module, plan: PruningPlan) -> Graph:
    """Trace `model` with inputs as the plan describes them."""
    from pruners.graph import trace
    from pruners.modules.random_inputs import random_inputs

    device = next((tensor.device for tensor in model.parameters()), torch.device("cpu"))
    return trace(model, random_inputs(plan.inputs, device=device), policy=plan.policy)


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
