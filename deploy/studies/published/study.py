"""Measure published networks against their dense parents, row by row; resumable."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from pydantic import Field

from backends.errors import BackendError
from benchmarks.errors import BenchmarkError
from benchmarks.records.base import Record
from benchmarks.records.measurement import Comparison
from benchmarks.settings import Settings
from benchmarks.subject.backend_options import require_backends
from deploy.files.atomic import write_file
from deploy.results.bench_grid import Grid, saying_for
from deploy.run.pairs import measure_pair, measured_key, read_pair
from deploy.run.stages import StageStore
from deploy.studies.published.catalogue import CatalogueEntry
from deploy.studies.published.export import LABELS, BuildError, export_apart

__all__ = ["PublishedResults", "PublishedRow", "run_study"]

Say = Callable[[str], None]
Export = Callable[[CatalogueEntry, Path], None]


class PublishedRow(Record):
    """One network on one backend: a comparison, or why there is none."""

    entry: str
    backend: str
    comparison: Comparison | None = None
    reason: str = Field("", description="why there is no comparison; empty when there is one")


class PublishedResults(Record):
    """``published.json``: every row with its raw comparison."""

    schema_version: Literal[1] = 1
    rows: tuple[PublishedRow, ...]

    def of(self, entry: CatalogueEntry) -> tuple[PublishedRow, ...]:
        """Return the rows of one network."""
        return tuple(row for row in self.rows if row.entry == entry.name)


def run_study(
    entries: Sequence[CatalogueEntry],
    grid: Grid,
    settings: Settings,
    folder: Path,
    say: Say,
    step: Say = lambda _: None,
    *,
    keep_unfit: bool = False,
    export: Export = export_apart,
) -> PublishedResults:
    """Measure the networks that have not been measured yet.

    A finished row stays in `folder` and is not measured again for the same entry, settings, backend version and
    machine. A network that cannot be built, exported or measured gets a row with the reason; it is tried again the next
    time, as is one measured on an unfit machine. ONNX files are deleted once the rows of their network are done, since
    the catalogue reproduces them.

    Parameters
    ----------
    entries : sequence of CatalogueEntry
        What to measure.
    grid : Grid
        Backends and options; one number of threads and one batch.
    settings : Settings
        Settings of every comparison.
    folder : Path
        Created if missing; ``published.json`` is written there after every network.
    say : callable
        Called with messages that deserve their own line.
    step : callable, optional
        Called with one short line for each step.
    keep_unfit : bool, default=False
        Count rows of an unfit machine as finished.
    export : callable
        Writes ``dense.onnx`` and ``pruned.onnx`` of an entry into a folder; default: in a child process.

    Raises
    ------
    BackendUnavailableError, UnknownBackendError
        A backend cannot run here; nothing was measured.
    OutputError
        `folder` cannot be written to, or another study works in it.
    """
    store = StageStore(folder)
    with store.locked():
        require_backends(grid.backends, grid.device)
        rows: list[PublishedRow] = []
        for position, entry in enumerate(entries, 1):
            say(f"[{position}/{len(entries)}] {entry.title}")
            rows += _measure_entry(entry, grid, settings, store, say, step, export, keep_unfit=keep_unfit)
            results = PublishedResults(rows=tuple(rows))
            write_file(folder / "published.json", results.model_dump_json() + "\n")
    return PublishedResults(rows=tuple(rows))


def _measure_entry(
    entry: CatalogueEntry,
    grid: Grid,
    settings: Settings,
    store: StageStore,
    say: Say,
    step: Say,
    export: Export,
    *,
    keep_unfit: bool,
) -> list[PublishedRow]:
    models = store.root / entry.name / "models"
    broken = ""
    rows = []
    for backend in grid.backends:
        own = replace(grid, backends=[backend])
        stage = store.stage(f"{entry.name}/{backend}", measured_key(entry.model_dump(mode="json"), own, settings))
        comparison, reason = read_pair(stage, say, keep_unfit=keep_unfit), ""
        if comparison is not None:
            say(f"{backend}: measured before")
        elif broken:
            reason = broken
        else:
            try:
                ((dense, pruned),) = own.specs(_exported(entry, models, export, step))
                comparison = measure_pair(
                    stage, pruned, dense, settings, saying_for(f"{backend}: {entry.title}", step), keep_unfit=keep_unfit
                )
            except BuildError as error:
                reason = broken = " ".join(str(error).split())
            except (BackendError, BenchmarkError) as error:
                reason = " ".join(str(error).split())
        if reason:
            say(f"{backend}: {reason}")
        rows.append(PublishedRow(entry=entry.name, backend=backend, comparison=comparison, reason=reason))
    if models.exists():
        shutil.rmtree(models)
    return rows


def _exported(entry: CatalogueEntry, models: Path, export: Export, step: Say) -> dict[str, Path]:
    """Return both ONNX files, exported once for all backends."""
    paths = {label: models / f"{label}.onnx" for label in LABELS}
    done = models / "done"
    if not done.exists():
        step(f"{entry.title}: build and export both networks")
        models.mkdir(parents=True, exist_ok=True)
        export(entry, models)
        done.touch()
    return paths
