"""Meet a speed by pruning to a share of another cost, for comparison with pruning by latency tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from benchmarks.errors import BenchmarkError
from deploy.bundles.pruning import SpeedLanding
from deploy.run.loss_check import require_repeatable
from deploy.run.speed.landing import landed
from deploy.run.speed.rounds import Round, SpeedTable, counts_of, measured
from pruners.base import PruningMethod
from pruners.decide.search import largest_within
from pruners.errors import SurgeryError, TargetError
from pruners.graph import trace
from pruners.surgery import policy_of
from pruners.target import Cost, Target
from pruners.task import Pruned, PruningTask

__all__ = ["prune_by_cost"]


def prune_by_cost(
    method: PruningMethod, of: Cost, task: PruningTask, tables: Sequence[SpeedTable]
) -> tuple[Pruned, tuple[SpeedLanding, ...]]:
    """Prune to shares of a cost until the measured times meet the requested ones.

    Tables predict counts that leave blocks partly filled less well than full ones, so the search relies on
    measurements. The method prunes once per share tried, ten times at most.

    Parameters
    ----------
    method : PruningMethod
        Decides the plans, without training.
    of : Cost
        Cost that it prunes by.
    task : PruningTask
        Its target is replaced.
    tables : sequence of SpeedTable
        One for each speed to meet.

    Raises
    ------
    MethodError
        The method trains while it prunes.
    TargetError
        The speed is out of reach: the method refuses the shares of the cost that would be small enough; or the closest
        plan is no faster than the dense network.
    """
    require_repeatable(method, of)
    refused: list[TargetError | SurgeryError] = []
    rounds: list[Round] = []
    ended = f"no share of the {of} that was tried is within the tolerance"

    def attempt(share: float) -> tuple[float, Round] | None:
        try:
            # Each share is a separate pruning: none resumes from what an earlier one kept.
            pruned = method.prune(replace(task, target=Target(of=of, kept_fraction=share), keeper=None))
        except (TargetError, SurgeryError) as error:
            refused.append(error)
            return None
        counts = counts_of(pruned, tables[0].model)
        found = next((one for one in rounds if one.counts == counts), None)
        if found is None:
            rounds.append(found := measured(pruned, counts, tables))
        return max(each / table.asked for each, table in zip(found.measured, tables, strict=True)), found

    try:
        largest_within(attempt, 1.0, max(1 / table.asked for table in tables))
    except BenchmarkError as error:
        if not rounds:
            raise
        refused, ended = [], f"the next plan failed: {error}"  # smaller shares were not tried
    if not rounds:
        raise refused[-1]
    for index, table in enumerate(tables):
        fastest = min(one.measured[index] for one in rounds)
        if refused and 1 > fastest > table.asked + table.tolerance:
            raise TargetError(
                f"{1 / table.asked:.2f}x the speed on {table.model.backend} was asked for, but with the smallest share "
                f"of the {of} that can be pruned to it is {1 / fastest:.2f}x: ask for less than that, or leave out "
                f"`by` ({refused[-1]})"
            )
    graph = trace(task.model, task.example_inputs, policy=policy_of(task))
    return landed(task, graph, tables, rounds, ended=ended)
