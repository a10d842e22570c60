"""Decide the best plan whose counts fill the channel blocks of a latency table."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from benchmarks.tables.plan_space import GroupRange, PlanSpace
from benchmarks.tables.table import LatencyTable
from benchmarks.tables.timer import Say
from deploy.tables.kept_share import kept_share_scores
from deploy.tables.latency_model import latency_model
from pruners.decide.budget import TimeLimit, time_budget
from pruners.decide.choices import Choices
from pruners.decide.exact.plan import exact_plan
from pruners.errors import TargetError

__all__ = ["best_aligned"]


def best_aligned(
    space: PlanSpace,
    table: LatencyTable,
    share: float,
    steps: Mapping[str, int],
    *,
    blocks: Collection[str] = (),
    say: Say = lambda _: None,
) -> dict[str, int] | None:
    """Return the plan in full channel blocks that keeps the most units within a time.

    Parameters
    ----------
    space : PlanSpace
        Plan space that the table was built with.
    table : LatencyTable
        Predicts the time.
    share : float
        The time, as a share of the dense network's measured one.
    steps : Mapping of str to int
        For each group, how many units fill a block.
    blocks : collection of str
        Residual blocks that may be left out.
    say : callable
        Receives a line that says why there is none.

    Returns
    -------
    dict of str to int or None
        Kept units of each group; for a residual block 1 if present, 0 if not. None if no such plan is as fast, or the
        solver found none in time.
    """
    model, dense_ns = latency_model(table), table.measured_dense_ns
    choices = Choices({group.name: _full(group, steps[group.name]) for group in space.groups})
    least = model.time_ns({**choices.floor, **model.without(blocks)}) / dense_ns
    if least > share:
        say(
            f"there is no best aligned plan: the MACs promised {share:.3f} of the dense time, and the smallest plan "
            f"that fills the blocks of {table.block} channels is predicted to take {least:.3f}"
        )
        return None
    budget = time_budget([TimeLimit(model, share * dense_ns, dense_ns)])
    try:
        counts, gone, _ = exact_plan(choices, kept_share_scores(choices), budget, blocks=blocks)
    except TargetError as error:
        say(f"there is no best aligned plan: {error}")
        return None
    return space.complete({**{name: count for name, count in counts.items() if count}, **dict.fromkeys(gone, 0)})


def _full(group: GroupRange, step: int) -> tuple[int, ...]:
    """Return the counts that fill the blocks, and the whole group."""
    return (*(count for count in range(group.min_units, group.n_units) if count % step == 0), group.n_units)
