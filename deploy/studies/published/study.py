"""Measure what is published: every network of the catalogue beside its dense parent, row by row, resumable."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from benchmarks.errors import RecordError
from benchmarks.records.base import Record
from benchmarks.records.file import load_comparison
from benchmarks.records.measurement import Comparison
from deploy.files.atomic import write_file
from deploy.run.stages import Stage, StageStore, stage_key
from deploy.studies.published.catalogue import Entry
from deploy.studies.published.prepare import LABELS, BuildError, export_apart

if TYPE_CHECKING:
    from benchmarks.settings import Settings
    from deploy.results.bench_grid import Grid

__all__ = ["Row", "StudyResults", "run_study"]

Say = Callable[[str], None]
Export = Callable[[Entry, Path], None]


class Row(Record):
    """One network under one backend: a comparison, or the reason why there is none."""

    entry: str
    backend: str
    comparison: Comparison | None = None
    reason: str = Field("", description="why there is no comparison; empty when there is one")


class StudyResults(Record):
    """``published.json``: every row with its raw comparison."""

    schema_version: Literal[1] = 1
    rows: tuple[Row, ...]

    def of(self, entry: Entry) -> tuple[Row, ...]:
        """Return the rows of one network."""
        return tuple(row for row in self.rows if row.entry == entry.name)


def run_study(
    entries: Sequence[Entry],
    grid: Grid,
    settings: Settings,
    folder: Path,
    say: Say,
    *,
    keep_unfit: bool = False,
    export: Export = export_apart,
) -> StudyResults:
    """Measure the networks that are not measured yet.

    A finished row stays in `folder` and is not measured again for the same entry, settings, backend version and
    machine. A network that cannot be built, exported or measured is a row with its reason; it is tried again the next
    time, and so is one that was measured while the machine was not fit. ONNX files are deleted once their network's
    rows are done: the catalogue makes the same ones again.

    Parameters
    ----------
    entries : sequence of Entry
        What to measure.
    grid : Grid
        Backends and options; one number of threads and one batch.
    settings : Settings
        Of every comparison.
    folder : Path
        Made when missing; receives ``published.json`` after every network.
    say : callable
        Receives one short line for each step.
    keep_unfit : bool, default=False
        Count rows of a machine that was not fit for measuring as finished.
    export : callable
        Writes ``dense.onnx`` and ``pruned.onnx`` of an entry into a folder; by default in a process of its own.

    Raises
    ------
    BackendUnavailableError, UnknownBackendError
        A backend cannot run here; nothing was measured.
    OutputError
        `folder` cannot be written to, or another study works in it.
    """
    from deploy.backend_options import require_backends

    store = StageStore(folder)
    with store.locked():
        require_backends(grid.backends, grid.device)
        rows: list[Row] = []
        for position, entry in enumerate(entries, 1):
            say(f"[{position}/{len(entries)}] {entry.title}")
            rows += _measure_entry(entry, grid, settings, store, say, export, keep_unfit=keep_unfit)
            found = StudyResults(rows=tuple(rows))
            write_file(folder / "published.json", found.model_dump_json() + "\n")
    return StudyResults(rows=tuple(rows))


def _measure_entry(
    entry: Entry,
    grid: Grid,
    settings: Settings,
    store: StageStore,
    say: Say,
    export: Export,
    *,
    keep_unfit: bool,
) -> list[Row]:
    models = store.root / entry.name / "models"
    broken = ""
    rows = []
    for backend in grid.backends:
        stage = _stage(entry, backend, grid, settings, store)
        known = _read(stage, say) if stage.done else None
        if known is not None:
            say(f"{backend}: measured before")
            rows.append(Row(entry=entry.name, backend=backend, comparison=known))
            continue
        try:
            if not broken:
                paths = _exported(entry, models, export, say)
                found = _compare(paths, backend, grid, settings, stage, say)
                rows.append(Row(entry=entry.name, backend=backend, comparison=found))
                if found.verdict != "failed" and (keep_unfit or not found.unfit):
                    stage.finish()
                continue
            reason = broken
        except BuildError as error:
            reason = broken = " ".join(str(error).split())
        except _measuring_errors() as error:
            reason = " ".join(str(error).split())
        say(f"{backend}: {reason}")
        rows.append(Row(entry=entry.name, backend=backend, reason=reason))
    if models.exists():
        shutil.rmtree(models)
    return rows


def _measuring_errors() -> tuple[type[Exception], ...]:
    from backends.errors import BackendError
    from benchmarks.errors import BenchmarkError

    return BackendError, BenchmarkError


def _stage(entry: Entry, backend: str, grid: Grid, settings: Settings, store: StageStore) -> Stage:
    """Name the row's place; its key holds all that decides the result, this machine included."""
    from backends import registry
    from benchmarks.machine.environment import identity

    key = stage_key(
        version("prune-deploy"),
        entry.model_dump(mode="json"),
        {**asdict(grid), "backends": backend},
        asdict(settings),
        identity(),
        registry.probe(backend, grid.device).version,
    )
    return store.stage(f"{entry.name}/{backend}", key)


def _exported(entry: Entry, models: Path, export: Export, say: Say) -> dict[str, Path]:
    """Give both ONNX files; they are made once for all backends."""
    paths = {label: models / f"{label}.onnx" for label in LABELS}
    done = models / "done"
    if not done.exists():
        say("build and export both networks")
        models.mkdir(parents=True, exist_ok=True)
        export(entry, models)
        done.touch()
    return paths


def _compare(
    paths: dict[str, Path], backend: str, grid: Grid, settings: Settings, stage: Stage, say: Say
) -> Comparison:
    from benchmarks.journal import Journal, journal_path
    from benchmarks.records.file import save
    from benchmarks.runner import compare

    (specs,) = replace(grid, backends=[backend]).specs(paths)
    dense, pruned = specs
    file = stage.begin() / "comparison.json"
    with Journal(journal_path(file)) as journal:
        found = compare(
            pruned, dense, settings=settings, progress=lambda line: say(f"{backend}: {line}"), journal=journal
        )
        save(found, file)
        journal.finish()
    return found


def _read(stage: Stage, say: Say) -> Comparison | None:
    try:
        return load_comparison(stage.folder / "comparison.json")
    except RecordError as error:
        say(f"{error}: measuring again")
        stage.redo()
        return None
