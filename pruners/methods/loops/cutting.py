"""Trace and cut a partly pruned network, for methods that cut more than once or train before they cut.

Imports torch, so methods import this module only when they start to work.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from torch import nn

from pruners.base import Method, plan_of
from pruners.distributed import broadcast_plan
from pruners.errors import VacuousCheckError
from pruners.graph import Graph, trace
from pruners.plan import PruningPlan
from pruners.surgery import apply
from pruners.task import PruningTask
from pruners.verify import verify

__all__ = ["Removal", "agreed_plan", "cut", "cut_plan", "retrace"]


@dataclass(frozen=True, kw_only=True)
class Removal:
    """One cut: its plan, relative to the network that was cut, and the smaller network."""

    plan: PruningPlan
    model: nn.Module


def retrace(task: PruningTask, graph: Graph, model: nn.Module, gone: PruningPlan | None) -> Graph:
    """Trace a network made from the task's network, with the policy of its trace `graph`.

    Parameters
    ----------
    gone : PruningPlan or None
        What `model` has lost; groups keep their names from `graph`.
    """
    return trace(model, task.example_inputs, policy=graph.policy, after=None if gone is None else (graph, gone))


def agreed_plan(
    method: Method, present: Graph, kept: Mapping[str, tuple[int, ...]], blocks: tuple[str, ...] = ()
) -> PruningPlan:
    """Return the plan of a decision; under ``torch.distributed`` the plan of process 0."""
    return broadcast_plan(plan_of(method, present, kept, blocks))


def cut_plan(task: PruningTask, present: Graph, model: nn.Module, plan: PruningPlan) -> nn.Module:
    """Return the smaller network, in the form that the task asks for, unchecked; `model` is not modified."""
    return apply(model, plan, graph=present, check=False, form=task.constraints.form)


def cut(
    method: Method,
    task: PruningTask,
    present: Graph,
    model: nn.Module,
    kept: Mapping[str, tuple[int, ...]],
    blocks: tuple[str, ...] = (),
    *,
    check: bool,
) -> Removal:
    """Cut a network to its `kept` units and remove `blocks`; with `check`, masked and compact networks must agree.

    They may agree because nothing that is removed has any effect, which is the aim of such training.

    Raises
    ------
    VerificationError
        Masked and compact networks differ.
    """
    plan = agreed_plan(method, present, kept, blocks)
    smaller = cut_plan(task, present, model, plan)
    if check:
        with suppress(VacuousCheckError):
            verify(model, plan, smaller, graph=present)
    return Removal(plan=plan, model=smaller)
