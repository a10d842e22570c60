"""Transfer a pruning pattern from one network to another: the new plan, and the result for each stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from deploy.errors import SourceError
from deploy.plans.source import Traced
from pruners.importance.measures.l1 import l1_norms
from pruners.plan import PruningPlan
from pruners.target import Constraints
from pruners.transfer.stages import stages_of
from pruners.transfer.transfer import Matching, average, matched, transfer

__all__ = ["TransferredPlan", "TransferredStage", "transfer_plan"]

_Choice = Literal["first", "random", "l1"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferredStage:
    """One stage, of either network or of both.

    Parameters
    ----------
    name : str
        Name of the stage: in the first network, or in the second if it has no counterpart.
    share : float or None
        Mean kept share in the pattern; None if the stage is not in the pattern.
    groups_from, groups_to : int
        Groups of the stage in each network.
    kept, of : int
        Units of the stage in the second network.
    """

    name: str
    share: float | None
    groups_from: int
    groups_to: int
    kept: int
    of: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferredPlan:
    """Result of transferring a pattern.

    Parameters
    ----------
    plan : PruningPlan
        Plan of the second network.
    stages : tuple of TransferredStage
        Stages of the pattern in order, then those not in it.
    blocks_left_behind : int
        Residual blocks that the plans remove: they have no counterpart in a network of another depth.
    """

    plan: PruningPlan
    stages: tuple[TransferredStage, ...]
    blocks_left_behind: int


def transfer_plan(
    plans: Sequence[PruningPlan],
    source: Traced,
    target: Traced,
    *,
    by: str = "size",
    units: str = "first",
    multiple_of: int = 1,
    seed: int = 0,
) -> TransferredPlan:
    """Average the plans of one network, and make a plan for another from their pattern.

    Parameters
    ----------
    plans : sequence of PruningPlan
        All of `source`.
    source, target : Traced
        The two networks.
    by, units : str
        See `pruners.transfer.transfer.transfer`; "l1" ranks by the filters' norm in the weights of `target`.
    multiple_of : int
        See `pruners.target.Constraints`.
    seed : int
        Seeds "random".

    Raises
    ------
    SourceError
        `by` or `units` is not one of the choices.
    PlanError, NothingToPruneError
        See `pruners.transfer.transfer.transfer`.
    """
    matching: Matching
    match by:
        case "size" | "order":
            matching = by
        case _:
            raise SourceError(f"--by {by!r}: choose one of {', '.join(get_args(Matching))}")
    chosen: Literal["first", "random"] | Mapping[str, Sequence[float]]
    stages = stages_of(target.graph)
    match units:
        case "first" | "random":
            chosen = units
        case "l1":
            chosen = l1_norms(target.graph.weights(), [target.graph.group(name) for name in stages])
        case _:
            raise SourceError(f"--units {units!r}: choose one of {', '.join(get_args(_Choice))}")
    pattern = average(source.graph, plans)
    followed = matched(pattern, target.graph, matching)
    constraints = Constraints(multiple_of=multiple_of)
    plan = transfer(pattern, target.graph, by=matching, units=chosen, seed=seed, constraints=constraints)
    rows = [
        _stage(str(share.stage), float(share.share), len(share.groups), plan, target, names)
        for share in pattern.shares
        for names in [[name for name, other in followed.items() if other == share]]
    ]
    for stage in dict.fromkeys(stage for name, stage in stages.items() if name not in followed):
        names = [name for name, other in stages.items() if other == stage]
        rows.append(_stage(str(stage), None, 0, plan, target, names))
    blocks = {name for each in plans for name in each.blocks}
    return TransferredPlan(plan=plan, stages=tuple(rows), blocks_left_behind=len(blocks))


def _stage(
    name: str, share: float | None, groups_from: int, plan: PruningPlan, target: Traced, names: Sequence[str]
) -> TransferredStage:
    sizes = {group: target.graph.group(group).n_units for group in names}
    return TransferredStage(
        name=name,
        share=share,
        groups_from=groups_from,
        groups_to=len(names),
        kept=sum(len(plan.kept.get(group, range(size))) for group, size in sizes.items()),
        of=sum(sizes.values()),
    )
