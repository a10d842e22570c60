"""Guided pruning: average what plans keep of each stage, and apply it to another network of the same family.

"Rethinking the Value of Network Pruning" (Liu et al., ICLR 2019, arXiv 1810.05270, section 5 "Network Pruning as
Architecture Search") reads pruned networks as a way to find architectures: the kept shares of the layers of one stage
are averaged, and a network designed with these shares, for instance VGG-19 with those of VGG-16, is trained from
scratch. Their patterns of weights inside 3 x 3 kernels have no counterpart here: a plan removes whole channels.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from pruners.decide.choices import choices_of
from pruners.decide.units import top_units
from pruners.errors import NothingToPruneError, PlanError
from pruners.plan import PruningPlan
from pruners.target import Constraints
from pruners.transfer.stages import Stage, stages_of

if TYPE_CHECKING:
    from pruners.graph import Graph

__all__ = ["Matching", "Pattern", "StageShare", "Units", "average", "matched", "transfer"]

Matching: TypeAlias = Literal["size", "order"]
Units: TypeAlias = Literal["first", "random"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StageShare:
    """What plans keep of one stage.

    Parameters
    ----------
    stage : Stage
        Resolution, width and kind of its groups.
    groups : tuple of str
        Its groups, in order.
    kept, of : int
        Units kept and units in total, over all groups and plans.
    """

    stage: Stage
    groups: tuple[str, ...]
    kept: int
    of: int

    @property
    def share(self) -> Fraction:
        """Mean kept share; the groups of a stage have one width, so the mean of shares is the share of sums."""
        return Fraction(self.kept, self.of)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        stage = {"positions": self.stage.positions, "width": self.stage.width, "joined": self.stage.joined}
        return {**stage, "groups": list(self.groups), "kept": self.kept, "of": self.of}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """What plans keep of each stage of a network.

    Parameters
    ----------
    shares : tuple of StageShare
        In the order of the stages.
    plans : tuple of str
        sha256 of each plan that was averaged.
    """

    shares: tuple[StageShare, ...]
    plans: tuple[str, ...]


def average(graph: Graph, plans: Sequence[PruningPlan]) -> Pattern:
    """Average the kept shares of each stage, over its groups and over several plans of one network.

    Groups that the plans do not name count as whole; groups that may not be pruned, or whose residual block a plan
    removes, do not count.

    Parameters
    ----------
    graph : Graph
        Of the network that the plans were made for.
    plans : sequence of PruningPlan
        At least one.

    Raises
    ------
    PlanError
        There is no plan, or one was made for another network.
    """
    if not plans:
        raise PlanError("no plan to average: give at least one")
    for plan in plans:
        graph.check(plan)
    names: dict[Stage, list[str]] = {}
    for name, stage in stages_of(graph).items():
        names.setdefault(stage, []).append(name)
    left = [_left(graph, plan) for plan in plans]
    shares = []
    for stage, members in names.items():
        counts = [(name, each[name]) for each in left for name in members if name in each]
        if counts:
            shares.append(
                StageShare(
                    stage=stage,
                    groups=tuple(dict.fromkeys(name for name, _ in counts)),
                    kept=sum(kept for _, kept in counts),
                    of=sum(graph.group(name).n_units for name, _ in counts),
                )
            )
    return Pattern(shares=tuple(shares), plans=tuple(plan.sha256 for plan in plans))


def _left(graph: Graph, plan: PruningPlan) -> dict[str, int]:
    """Count the kept units of every group that is not inside a removed block."""
    dropped = graph.dropped(plan)
    return {
        group.name: len(plan.kept.get(group.name, range(group.n_units)))
        for group in graph.groups
        if not all(member.path in dropped for member in group.members)
    }


def matched(pattern: Pattern, graph: Graph, by: Matching = "size") -> dict[str, StageShare]:
    """Return the stage of the pattern that each group of another network follows; groups without one are omitted.

    Parameters
    ----------
    pattern : Pattern
        As `average` returns it.
    graph : Graph
        Of the network that the pattern is carried to.
    by : {"size", "order"}
        "size": the stage with the same positions, width and `joined`. "order": the n-th stage follows the n-th one, for
        networks of other widths or image sizes; joined stages are counted separately.

    Raises
    ------
    PlanError
        No stage has a counterpart, or with "order" the networks do not have as many stages.
    """
    stages = stages_of(graph)
    if by == "size":
        known = {share.stage: share for share in pattern.shares}
    else:
        known = {}
        for joined in (False, True):
            ours = [share for share in pattern.shares if share.stage.joined == joined]
            theirs = list(dict.fromkeys(stage for stage in stages.values() if stage.joined == joined))
            if len(ours) != len(theirs):
                kind = "joined stages" if joined else "stages"
                raise PlanError(
                    f"the pattern has {len(ours)} {kind}, the network {len(theirs)}: they cannot be matched by order; "
                    "match them by size"
                )
            known |= dict(zip(theirs, ours, strict=True))
    pattern_stages = {name: known[stage] for name, stage in stages.items() if stage in known}
    if not pattern_stages:
        raise PlanError(
            "no stage of the network has the resolution and width of a stage of the pattern; match them by order, or "
            "choose a network of the same family"
        )
    return pattern_stages


def transfer(
    pattern: Pattern,
    graph: Graph,
    *,
    by: Matching = "size",
    units: Units | Mapping[str, Sequence[float]] = "first",
    seed: int = 0,
    constraints: Constraints | None = None,
) -> PruningPlan:
    """Make a plan for another network that keeps the mean share of its stage in each group; removes no blocks.

    Parameters
    ----------
    pattern : Pattern
        As `average` returns it.
    graph : Graph
        Of the network that the plan is for.
    by : {"size", "order"}
        How stages correspond, as in `matched`; a stage without counterpart stays whole.
    units : {"first", "random"} or Mapping of str to sequence of float
        Which units are kept: the first ones, randomly drawn ones, or those with the highest of these scores (a number
        for each unit of each group). If the network is trained from scratch, the choice does not matter.
    seed : int
        Seeds "random".
    constraints : Constraints, optional
        A share of units is rounded to the nearest legal count; of two equally near ones, to the smaller.

    Raises
    ------
    PlanError
        No stage has a counterpart, or a score is missing.
    NothingToPruneError
        The pattern removes nothing here.
    SelectorError
        The constraints name unknown layers.
    """
    shares = matched(pattern, graph, by)
    choices = choices_of(graph.groups, constraints or Constraints())
    counts = {
        name: choices.nearest(name, float(share.share * choices.whole[name]))
        for name, share in shares.items()
        if name in choices.legal
    }
    sizes = {name: choices.whole[name] for name in counts}
    if counts == sizes:
        raise NothingToPruneError("the pattern removes no unit of this network: its matched stages keep everything")
    used = list(dict.fromkeys(shares[name] for name in counts))
    return PruningPlan.from_kept(
        _chosen(units, counts, sizes, seed),
        sizes,
        graph=graph.fingerprint,
        inputs=graph.inputs,
        call=graph.call,
        method="transfer",
        policy=graph.policy,
        settings={
            "plans": list(pattern.plans),
            "by": by,
            "units": "scores" if isinstance(units, Mapping) else units,
            "seed": seed,
            "stages": [share.to_json() for share in used],
        },
    )


def _chosen(
    units: Units | Mapping[str, Sequence[float]], counts: Mapping[str, int], sizes: Mapping[str, int], seed: int
) -> dict[str, tuple[int, ...]]:
    if isinstance(units, Mapping):
        for name, size in sizes.items():
            if len(units.get(name, ())) != size:
                raise PlanError(f"group {name!r} has {size} units, {len(units.get(name, ()))} scores are given")
        return top_units(units, counts)
    if units not in ("first", "random"):
        raise PlanError(f"units are 'first', 'random' or scores, got {units!r}")
    if units == "first":
        return {name: tuple(range(count)) for name, count in counts.items()}
    rng = random.Random(seed)
    return {name: tuple(sorted(rng.sample(range(sizes[name]), count))) for name, count in counts.items()}
