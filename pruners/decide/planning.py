"""From scores to a plan in one call, for custom training loops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from pruners.decide.decisions import decide
from pruners.decide.goal import goal_of
from pruners.decide.units import top_units
from pruners.errors import MethodError
from pruners.importance.normalise import Normalisation, normalise
from pruners.importance.scores import require_finite
from pruners.plan import PruningPlan
from pruners.target import Constraints, Target

if TYPE_CHECKING:
    from pruners.graph import Graph

__all__ = ["plan_from_scores"]


def plan_from_scores(
    graph: Graph,
    scores: Mapping[str, Sequence[float]],
    target: Target,
    constraints: Constraints | None = None,
    *,
    decision: Literal["local", "uniform", "global", "greedy", "exact"] = "global",
    normalisation: Normalisation = "none",
    method: str = "by hand",
) -> PruningPlan:
    """Decide how many units each group keeps, and which.

    Parameters
    ----------
    graph : Graph
        Trace of the network.
    scores : Mapping of str to sequence of float
        One number for each unit; low goes first. Groups without scores stay whole.
    target : Target
        How small the network should become.
    constraints : Constraints
        What else the plan must respect.
    decision : {"local", "uniform", "global", "greedy", "exact"}
        See `pruners.decide.decisions.decide`.
    normalisation : str
        How each group's scores are normalised; see `pruners.importance.normalise`.
    method : str
        Name that the plan records as its method.

    Raises
    ------
    MethodError
        Scores are for an unknown group, do not match its number of units, or are not finite.
    SelectorError, TargetError, NothingToPruneError
        The target or the constraints name unknown layers, cannot be met, or leave nothing to remove.

    Examples
    --------
    ::

        plan = plan_from_scores(graph, gate.scores(), Target(of="flops", kept_fraction=0.5))
        compact = apply(network, plan, graph=graph)
    """
    for name, values in scores.items():
        if len(values) != graph.group(name).n_units:
            raise MethodError(f"group {name!r} has {graph.group(name).n_units} units, got {len(values)} scores")
    given = {name: tuple(float(value) for value in values) for name, values in scores.items()}
    require_finite(given, method)
    choices, budget = goal_of(target, constraints or Constraints(), graph)
    unscored = next((name for name in choices.forced if name not in given), None)
    if unscored is not None:
        raise MethodError(f"group {unscored!r} has no scores, but the bounds make it lose units; give scores for it")
    choices = choices.at_least({name: size for name, size in choices.whole.items() if name not in given})
    budget.require_reachable(choices)
    used = normalise({name: given[name] for name in choices.movable}, normalisation)
    counts = decide(decision, choices, used, budget)
    kept = top_units(used, {name: counts[name] for name in used})
    return PruningPlan.from_kept(
        kept,
        {name: graph.group(name).n_units for name in kept},
        graph=graph.fingerprint,
        inputs=graph.inputs,
        call=graph.call,
        method=method,
        settings={},
        policy=graph.policy,
    )
