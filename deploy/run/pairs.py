"""Measure a pair of models once: the finished comparison is kept in a stage and reused the next time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from backends import registry
from benchmarks.answers.reference import Reference
from benchmarks.errors import RecordError
from benchmarks.journal import Journal, journal_path
from benchmarks.machine.environment import identity
from benchmarks.records.file import load_comparison, save
from benchmarks.records.measurement import Comparison
from benchmarks.runner import compare
from benchmarks.settings import Settings
from benchmarks.subject.subject import SubjectSpec
from deploy.results.bench_grid import Grid
from deploy.run.stages import Stage, stage_key

__all__ = ["measure_pair", "measured_key", "read_pair"]

_FILE = "comparison.json"
_NEWER = ("analyses", "fast", "provisional")
"""Settings added after the first measurements were kept."""


def measured_key(what: Any, grid: Grid, settings: Settings) -> str:
    """Return the key of a measurement on the one backend of `grid`: everything that affects it, this machine included.

    Parameters
    ----------
    what : JSON value
        What is measured.
    """
    (backend,) = grid.backends
    runtime = registry.probe(backend, grid.device).version
    asked = {**asdict(settings), "analyses": settings.analyses.schedule}
    for name in _NEWER:  # their defaults leave the key of a finished measurement unchanged
        if getattr(settings, name) == getattr(Settings(), name):
            del asked[name]
    return stage_key(version("prune-deploy"), what, asdict(grid), asked, identity(), runtime)


def read_pair(stage: Stage, say: Callable[[str], None], *, keep_unfit: bool) -> Comparison | None:
    """Return the comparison of a finished stage; None if it has to be measured (again).

    Parameters
    ----------
    keep_unfit : bool
        Also accept a measurement on a machine that was unfit for it.
    """
    if not stage.done:
        return None
    file = stage.folder / _FILE
    try:
        known = load_comparison(file)
        if keep_unfit or not known.unfit:
            return known
        reason = f"{file} was measured on an unfit machine"
    except RecordError as error:
        reason = str(error)
    say(f"{reason}: measuring again")
    stage.redo()
    return None


def measure_pair(
    stage: Stage,
    candidate: SubjectSpec,
    baseline: SubjectSpec,
    settings: Settings,
    say: Callable[[str], None],
    *,
    keep_unfit: bool,
    candidate_reference: Reference | None = None,
    baseline_reference: Reference | None = None,
) -> Comparison:
    """Measure a pair in a stage.

    The stage is finished unless the measurement failed or the machine was unfit for it: such a comparison is returned,
    but measured again the next time.

    Parameters
    ----------
    keep_unfit : bool
        Finish the stage even if the machine was unfit.

    Raises
    ------
    BackendError, BenchmarkError
        The pair cannot be measured.
    """
    file = stage.begin() / _FILE
    with Journal(journal_path(file)) as journal:
        comparison = compare(
            candidate,
            baseline,
            candidate_reference=candidate_reference,
            baseline_reference=baseline_reference,
            settings=settings,
            progress=say,
            journal=journal,
        )
        save(comparison, file)
        journal.finish()
    if comparison.verdict != "failed" and (keep_unfit or not comparison.unfit):
        stage.finish()
    return comparison
