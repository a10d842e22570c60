"""AutoPruner's steps: which groups are pruned together and how many of their units stay, decided before training.

Imports torch, so the method imports this module only when it starts to work.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pruners.base import Method, plan_of
from pruners.decide.decisions import decide
from pruners.decide.goal import goal_of, removal_limit
from pruners.errors import MethodError, TargetError
from pruners.forms.graph_network import GraphNetwork
from pruners.gates.input_readers import find_readers
from pruners.gates.selection import require_size
from pruners.graph import Graph
from pruners.methods.loops.cutting import cut_plan
from pruners.task import PruningTask

__all__ = ["Steps", "plan_steps"]


@dataclass(frozen=True, kw_only=True)
class Steps:
    """What is decided before training: the final unit count of each group, and the groups of each step."""

    counts: Mapping[str, int]
    chunks: tuple[tuple[str, ...], ...]
    ungated: Mapping[str, str]


def plan_steps(method: Method, task: PruningTask, graph: Graph, *, together: int, max_weights: int) -> Steps:
    """Decide how many units of each group stay, and refuse what cannot work, before training.

    Parameters
    ----------
    method : Method
        Its name appears in messages and in the plan.
    task : PruningTask
        Its network, target and constraints.
    graph : Graph
        Trace of the network.
    together : int
        Groups in one step.
    max_weights : int
        Largest selection layer.

    Raises
    ------
    MethodError, TargetError
        The target is out of reach, a selection layer would be too large, or the network has no modules left to gate.
    """
    choices, budget = goal_of(task.target, task.constraints, graph)
    budget.require_reachable(choices)
    readers, ungated = find_readers(task.model, graph, choices.movable)
    whole = choices.whole
    choices = choices.at_least({name: whole[name] for name in ungated})
    if ungated and (set(ungated) & set(choices.forced) or budget.cost(choices.floor) > budget.limit):
        name, reason = next(iter(ungated.items()))
        raise MethodError(
            f"method {method.name!r}: the target is out of reach without the groups that get no selection layer, "
            f"as {name!r}: {reason}"
        )
    counts = decide("uniform", choices, {}, budget)
    smaller = tuple(name for name in choices.legal if counts[name] < whole[name])
    for name in smaller:
        require_size(name, readers[name], max_weights)
    chunks = tuple(smaller[first : first + together] for first in range(0, len(smaller), together))
    limit = removal_limit(task.constraints, choices)
    for names in chunks:
        removed = sum(whole[name] - counts[name] for name in names)
        if limit is not None and removed > limit:
            raise TargetError(
                f"a step takes {removed} units of {', '.join(names)}, but max_units_per_step or "
                f"max_fraction_per_step allow {limit}: lower layers_at_once, or loosen them"
            )
    _require_modules(method, task, graph, {name: counts[name] for names in chunks[:-1] for name in names})
    return Steps(counts=counts, chunks=chunks, ungated=ungated)


def _require_modules(method: Method, task: PruningTask, graph: Graph, counts: Mapping[str, int]) -> None:
    """Check that cutting before the last step keeps the user's own modules, which alone can be gated."""
    if counts:
        plan = plan_of(method, graph, {name: tuple(range(count)) for name, count in counts.items()})
        smaller = cut_plan(task, graph, task.model, plan)
        if isinstance(smaller, GraphNetwork):
            raise MethodError(
                f"method {method.name!r}: {type(task.model).__name__} shrinks in graph form only ({smaller.reason}), "
                f"and then has no modules left to gate: take all groups in one step, layers_at_once=1000"
            )
