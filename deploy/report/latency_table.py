"""Views of a latency table: how well it predicts, where the time goes, and the outcome of a check."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from itertools import product
from math import prod
from pathlib import Path

from benchmarks.tables.table import HeldOut, LatencyTable, LayerTime, MeasuredPlan
from deploy.report.formatting import NOTHING, duration, percent, ratio
from deploy.report.table import Table, left

__all__ = ["as_csv", "check_tables", "kept_table", "latency_tables"]

_MOST_ROWS = 10_000
"""Combinations of counts listed for one layer."""


def latency_tables(table: LatencyTable, *, top: int) -> list[Table]:
    """Return how well a table predicts, and its layers, slowest first; `top` of them, or all if 0."""
    key, held_out = table.key, table.held_out
    facts = (
        ("backend", f"{key.backend} {key.backend_version or ''}".strip()),
        ("options", f"{key.precision}, threads {key.threads}, {key.device}, batch {key.batch}"),
        (
            "dense network",
            f"{duration(table.dense_ns)} (measured: {_measured_dense(table)})",
        ),
        ("channels computed together", str(table.block)),
        ("plans measured", f"{len(table.plans)} in {table.seconds:.0f} s"),
        ("error on held-out plans", f"{percent(held_out.mape, 1)} on average, {percent(held_out.worst, 1)} at most"),
        ("rank correlation", _correlation(held_out)),
    )
    layers = sorted(table.layers, key=lambda layer: -_dense(table, layer))
    rows = tuple(
        (
            layer.name or "(before the first layer)",
            duration(_dense(table, layer)),
            percent(_dense(table, layer) / table.dense_ns, 1),
            percent(layer.error, 1),
            ", ".join(_groups(layer)) or "none",
        )
        for layer in layers[: top or None]
    )
    return [
        Table("Latency table", left("", ""), facts),
        Table(
            "Layers",
            (*left("layer"), "time", "share", "fit error", *left("follows")),
            rows,
            caption="time: of the dense network, with what runs between a layer and the next weighted one",
        ),
    ]


def kept_table(kept: Sequence[tuple[Path, LatencyTable]]) -> Table:
    """Return one row, with its file, for each table kept on this machine."""
    rows = tuple(
        (
            path.stem[:12],
            f"{table.key.backend} {table.key.backend_version or ''}".strip(),
            f"{table.key.precision}, threads {table.key.threads}, {table.key.device}, batch {table.key.batch}",
            duration(table.measured_dense_ns),
            str(table.block),
            percent(table.held_out.mape, 1),
            table.started_utc[:10],
        )
        for path, table in kept
    )
    headings = (*left("file", "backend", "options"), "dense", "block", "error", *left("measured"))
    return Table("Latency tables", headings, rows)


def check_tables(held_out: HeldOut, plans: Sequence[MeasuredPlan]) -> list[Table]:
    """Return predicted and measured times of plans that the table has not seen."""
    rows = tuple(
        (duration(plan.predicted_ns), duration(plan.whole_ns), ratio(plan.predicted_ns / plan.whole_ns))
        for plan in plans
    )
    caption = (
        f"error {percent(held_out.mape, 1)} on average, {percent(held_out.worst, 1)} at most; rank correlation "
        + _correlation(held_out)
    )
    return [Table("New plans", ("predicted", "measured", "predicted / measured"), rows, caption=caption)]


def _correlation(held_out: HeldOut) -> str:
    return NOTHING if held_out.rank_correlation is None else f"{held_out.rank_correlation:.3f}"


def as_csv(table: LatencyTable) -> str:
    """Write one line per layer and combination of full blocks of the groups that it depends on.

    For a layer with more than 10,000 combinations, only those in which at most one group is not whole.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("layer", "groups", "kept_units", "ns"))
    whole = table.whole
    for layer in table.layers:
        groups = _groups(layer)
        counts = [_full_blocks(table, layer, group) for group in groups]
        combinations = product(*counts) if prod(map(len, counts)) <= _MOST_ROWS else _one_by_one(counts)
        for kept in combinations:
            time_ns = layer.time_ns({**whole, **dict(zip(groups, kept, strict=True))}, table.block)
            writer.writerow((layer.name, " ".join(groups), " ".join(map(str, kept)), round(time_ns)))
    return out.getvalue()


def _one_by_one(counts: Sequence[Sequence[int]]) -> Iterator[tuple[int, ...]]:
    """Yield the combination of all last counts, then those in which one group has another count."""
    whole = tuple(each[-1] for each in counts)
    yield whole
    for index, each in enumerate(counts):
        for count in each[:-1]:
            yield (*whole[:index], count, *whole[index + 1 :])


def _measured_dense(table: LatencyTable) -> str:
    """Return the shortest and longest time of the dense network; they differ on a noisy machine."""
    times = [plan.dense_ns for plan in table.plans]
    return " to ".join(dict.fromkeys((duration(min(times)), duration(max(times)))))


def _dense(table: LatencyTable, layer: LayerTime) -> float:
    return layer.time_ns(table.whole, table.block)


def _groups(layer: LayerTime) -> tuple[str, ...]:
    return tuple(dict.fromkeys(factor.group for term in layer.terms for factor in term.factors))


def _full_blocks(table: LatencyTable, layer: LayerTime, group: str) -> list[int]:
    """Return the counts of a group at which a layer's number of blocks changes, and the full count."""
    width = next(f.width for term in layer.terms for f in term.factors if f.group == group)
    size = table.whole[group]
    counts = range(1, size + 1)
    return [
        count
        for count in counts
        if count == size or -(-width * count // table.block) < -(-width * (count + 1) // table.block)
    ]
