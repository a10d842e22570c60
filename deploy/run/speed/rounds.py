"""What is known while a plan of a requested speed is sought: a latency table that can learn, and measured plans."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from pruners.decide.latency import LatencyModel
from pruners.errors import TargetError
from pruners.task import Pruned

__all__ = ["Counts", "Round", "SpeedTable", "apart", "counts_of", "kept_index", "measured", "misses", "off"]

Counts: TypeAlias = Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeedTable:
    """Latency table of one target, with ways to measure plans and to refine it.

    Parameters
    ----------
    model : LatencyModel
        Predicts times.
    dense_ns : float
        Time of the dense network as measured for this model.
    asked : float
        Requested time, as a share of the dense network's.
    tolerance : float
        How far off the measured time may be, also as a share.
    threads : int
        Threads of one call.
    share : callable
        ``share(counts)`` measures the time of a plan as a share of the dense network's.
    refine : callable
        ``refine(counts, share)`` measures that plan by layer, and others around it, and returns the table fitted to all
        of them. If `share` is None, it is measured as well, and a resumed run gets the same table again.
    """

    model: LatencyModel
    dense_ns: float
    asked: float
    tolerance: float
    threads: int
    share: Callable[[Counts], float]
    refine: Callable[[Counts, float | None], SpeedTable]

    def predicted(self, counts: Counts) -> float:
        """Return the predicted time of a plan as a share of the dense network's."""
        return self.model.time_ns(counts) / self.dense_ns


class Round(NamedTuple):
    """A plan, with its predicted and measured time per table, as shares of the dense network's time."""

    pruned: Pruned
    counts: dict[str, int]
    predicted: tuple[float, ...]
    measured: tuple[float, ...]


def counts_of(pruned: Pruned, model: LatencyModel) -> dict[str, int]:
    """Return the kept counts of each group in a plan, 0 for removed residual blocks and their groups.

    Raises
    ------
    TargetError
        The plan removes a block that the model has no time without.
    """
    if unknown := sorted(set(pruned.plan.blocks) - model.blocks.keys()):
        raise TargetError(
            f"the plan removes block {unknown[0]!r}, and the latency table on {model.backend} knows no network without "
            "it: leave out `by`, or set structures to units"
        )
    return {name: len(kept) for name, kept in pruned.plan.kept.items()} | model.without(pruned.plan.blocks)


def measured(pruned: Pruned, counts: dict[str, int], tables: Sequence[SpeedTable]) -> Round:
    """Measure a plan on every backend."""
    predicted = tuple(table.predicted(counts) for table in tables)
    return Round(pruned, counts, predicted, tuple(table.share(counts) for table in tables))


def misses(one: Round, tables: Sequence[SpeedTable]) -> list[float]:
    """Return by how much a plan is slower than each table's speed; negative if it is faster."""
    return [measured - table.asked for measured, table in zip(one.measured, tables, strict=True)]


def apart(one: Round, tables: Sequence[SpeedTable]) -> float:
    """Return how far off a plan is; of several speeds, the one that it is slowest for."""
    return abs(max(misses(one, tables)))


def off(one: Round, tables: Sequence[SpeedTable]) -> tuple[int, float]:
    """Rank how far off a plan is, then by how much.

    0 is within the tolerance, 1 faster than requested, 2 slower, 3 no faster than the dense network.
    """
    missed = misses(one, tables)
    beyond = [miss - table.tolerance for miss, table in zip(missed, tables, strict=True)]
    worst = max(range(len(tables)), key=lambda index: beyond[index])
    if max(one.measured) >= 1:
        return 3, missed[worst]
    if beyond[worst] > 0:
        return 2, missed[worst]
    nearest = max(miss + table.tolerance for miss, table in zip(missed, tables, strict=True))
    return (0 if nearest >= 0 else 1), apart(one, tables)


def kept_index(rounds: Sequence[Round], tables: Sequence[SpeedTable]) -> int:
    """Return the index of the plan to keep."""
    return min(range(len(rounds)), key=lambda index: off(rounds[index], tables))
