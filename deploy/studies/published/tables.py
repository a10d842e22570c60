"""The study and the catalogue as tables."""

from __future__ import annotations

from collections.abc import Sequence

from deploy.report.formatting import NOTHING, interval, ratio, realised, verdict
from deploy.report.table import Notes, Table, left
from deploy.studies.published.catalogue import Catalogue, CatalogueEntry
from deploy.studies.published.study import PublishedResults, PublishedRow

__all__ = [
    "catalogue_table",
    "left_out_table",
    "measured_table",
    "promised_table",
    "study_table",
]

_PROMISED = ("FLOPs said", "counted", "parameters", "theirs")
_MEASURED = (*left("backend"), "speed-up", *left("verdict"), "realised")


def promised_table(entries: Sequence[CatalogueEntry]) -> Table:
    """Tabulate the factors by which each network is smaller, as published and as counted here."""
    return Table(
        title="What the papers promise",
        columns=(*left("network"), *_PROMISED),
        rows=tuple((entry.name, *_promised(entry)) for entry in entries),
        caption="factors, parent over pruned; theirs: the speed-up that the authors measured, on their machine",
    )


def measured_table(entries: Sequence[CatalogueEntry], results: PublishedResults) -> Table:
    """Tabulate the measurements of this machine, one row per network and backend."""
    rows = [(entry.name, row) for entry in entries for row in results.of(entry)]
    return _with_notes("What this machine gives", left("network"), [((name,), row) for name, row in rows])


def study_table(entries: Sequence[CatalogueEntry], results: PublishedResults) -> Table:
    """Return published and measured figures in one wide table."""
    rows = [((entry.name, entry.method, *_promised(entry)), row) for entry in entries for row in results.of(entry)]
    return _with_notes("Published and measured", (*left("network", "paper"), *_PROMISED), rows)


def catalogue_table(entries: Sequence[CatalogueEntry]) -> Table:
    """Tabulate the exact cost of each network, its distance from the published figures, and the source."""
    rows = []
    for entry in entries:
        dense, pruned = entry.counts.dense, entry.counts.pruned
        worst = max(entry.misses().items(), key=lambda item: abs(item[1]))
        rows.append(
            (
                entry.name,
                entry.title,
                entry.parent.name,
                f"{dense.parameters:,} -> {pruned.parameters:,}",
                f"{dense.macs:,} -> {pruned.macs:,}",
                f"{100 * worst[1]:+.2f} % ({worst[0]})",
                "FLOPs = 2 MACs" if entry.published.counted_in == "flops" else "MACs",
                entry.source + (f"; {entry.note}" if entry.note else ""),
            )
        )
    numbers = ("parameters", "MACs", "largest miss", "paper counts")
    columns = (*left("name", "network", "parent"), *numbers, *left("source"))
    return Table(title="The catalogue", columns=columns, rows=tuple(rows))


def left_out_table(catalogue: Catalogue) -> Table:
    """Tabulate the networks not in the catalogue, and why."""
    rows = tuple((one.title, one.reason) for one in catalogue.left_out)
    return Table(title="Left out", columns=left("network", "why"), rows=rows)


def _promised(entry: CatalogueEntry) -> tuple[str, ...]:
    published, counted = entry.published, entry.counts
    return (
        NOTHING if published.ratio is None else ratio(published.ratio),
        ratio(counted.dense.macs / counted.pruned.macs),
        ratio(counted.dense.parameters / counted.pruned.parameters),
        NOTHING if published.measured is None else ratio(published.measured.speedup),
    )


def _with_notes(title: str, columns: tuple[str, ...], rows: list[tuple[tuple[str, ...], PublishedRow]]) -> Table:
    notes = Notes()
    cells = []
    for head, row in rows:
        note, pair = [_caveat(row)], row.comparison
        if pair is None or pair.speedup is None:
            cells.append((*head, row.backend, NOTHING, notes.after("failed", note), NOTHING))
        else:
            verdict_cell = notes.after(verdict(pair), note)
            cells.append((*head, row.backend, interval(pair.speedup), verdict_cell, realised(pair)))
    caption = "realised: share of the counted FLOP ratio that became speed"
    return Table(title=title, columns=(*columns, *_MEASURED), rows=tuple(cells), notes=notes.texts, caption=caption)


def _caveat(row: PublishedRow) -> str:
    """Return what a reader must know about a row: why it failed, or that the machine was unfit."""
    pair = row.comparison
    if pair is None:
        return row.reason
    sides = pair.sides
    if failures := [f"{side.subject.label}: {side.failure}" for side in sides if side.failure]:
        return "; ".join(failures)
    return "the machine was not fit for measuring: do not believe this row" if pair.unfit else ""
