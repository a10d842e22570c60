"""The study: which rows are missing, in which order they are made, and how many at once."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from fnmatch import fnmatchcase
from pathlib import Path

import psutil
from pydantic import ValidationError

from deploy.errors import ExtraMissingError, ResultsError, SourceError
from deploy.files.atomic import output_errors
from deploy.files.validation_errors import suggestion
from deploy.studies.coverage.provenance import library_versions, source_hash
from deploy.studies.coverage.rows import CoverageJob, CoverageRow, CoverageSettings, Engine, Limits, ListedNetwork
from deploy.studies.coverage.worker import Worker

__all__ = ["ENGINES", "choose", "jobs_of", "run", "stored"]

ENGINES: tuple[Engine, ...] = ("ours", "torch-pruning")
_POLL_S = 0.2
_BYTES_PER_PARAMETER = 4 * 8
"""About eight copies in fp32: dense, masked, compact, what torch.export and the exporter hold."""
_BASE_BYTES = 1_500_000_000
_MEMORY_SHARE = 0.85

_log = logging.getLogger(__name__)


def choose(entries: Sequence[ListedNetwork], part: str, patterns: Sequence[str] = ()) -> tuple[ListedNetwork, ...]:
    """Take one set of the list, or all, and of these the networks whose names match one of the patterns.

    Parameters
    ----------
    entries : sequence of ListedNetwork
        The list.
    part : str
        Name of a set, or ``"all"``.
    patterns : sequence of str
        As `fnmatch` reads them, against ``name`` and ``set:name``; empty: every network.

    Raises
    ------
    SourceError
        No such set, or nothing matches.
    """
    parts = list(dict.fromkeys(entry.set for entry in entries))
    if part != "all" and part not in parts:
        raise SourceError(f"no set of networks is called {part!r}{suggestion(part, [*parts, 'all'])}")
    found = tuple(
        entry
        for entry in entries
        if part in ("all", entry.set)
        and any(
            fnmatchcase(name, pattern)
            for name in (entry.name, f"{entry.set}:{entry.name}")
            for pattern in patterns or ("*",)
        )
    )
    if not found:
        raise SourceError(f"no network of {part!r} matches {' or '.join(map(repr, patterns))}")
    return found


def jobs_of(
    entries: Iterable[ListedNetwork], engines: Sequence[str], settings: CoverageSettings, limits: Limits | None = None
) -> tuple[CoverageJob, ...]:
    """Make one job for each network and engine, in the order of the networks.

    Raises
    ------
    SourceError
        An engine is unknown.
    ExtraMissingError
        The other library is not installed.
    """
    known: dict[str, Engine] = {name: name for name in ENGINES}
    for name in engines:
        if name not in known:
            raise SourceError(f"no engine is called {name!r}{suggestion(name, list(known))}")
        if name != "ours" and not library_versions(known[name])[name]:
            raise ExtraMissingError(f"{name} is not installed; pip install 'prune-deploy[compare]'")
    chosen = [known[name] for name in dict.fromkeys(engines)]
    return tuple(
        CoverageJob(
            entry=entry,
            engine=engine,
            settings=settings,
            limits=limits or Limits(),
            source=source_hash(engine),
            versions=library_versions(engine),
        )
        for entry in entries
        for engine in chosen
    )


def stored(folder: Path, job: CoverageJob) -> CoverageRow | None:
    """Read the row of a job that was done; None where there is none, or one that other limits had ended.

    Raises
    ------
    ResultsError
        The file is damaged.
    """
    path = folder / job.file_name
    if not path.is_file():
        return None
    try:
        row = CoverageRow.model_validate_json(path.read_text(encoding="utf-8"))
    except (ValidationError, UnicodeDecodeError) as error:
        raise ResultsError(f"{path} is no row of this study; delete it") from error
    same_limits = row.job.limits == job.limits
    return row if row.job.key == job.key and (same_limits or not row.limited) else None


def run(
    jobs: Sequence[CoverageJob],
    folder: Path,
    *,
    at_once: int = 1,
    said: Callable[[CoverageRow, int, int], None] | None = None,
) -> tuple[CoverageRow, ...]:
    """Do the jobs whose rows are missing, each in a process of its own, and give all rows in the order of the jobs.

    Parameters
    ----------
    jobs : sequence of CoverageJob
        Those at the front are started first.
    folder : Path
        One file a row; what is there already is not done again.
    at_once : int
        Processes at the same time. Fewer run where large networks would not fit into memory together.
    said : callable, optional
        ``said(row, number done, number of jobs to do)`` after each.

    Raises
    ------
    OutputError
        The folder can not be written.
    ResultsError
        A file in it is damaged.
    """
    with output_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    rows = {job.key: row for job in jobs if (row := stored(folder, job)) is not None}
    todo = [job for job in jobs if job.key not in rows]
    total, memory = len(todo), psutil.virtual_memory().total * _MEMORY_SHARE
    _log.info("%d rows are there, %d are missing", len(rows), total)
    with ExitStack() as stack:
        running: list[Worker] = []
        while todo or running:
            while todo and len(running) < at_once:
                if running and sum(map(_bytes, (*(worker.job for worker in running), todo[0]))) > memory:
                    break
                worker = Worker(todo[0], folder / todo[0].file_name)
                stack.callback(worker.close)
                running.append(worker)
                todo.pop(0)
            time.sleep(_POLL_S)
            for worker in list(running):
                if (row := worker.poll()) is not None:
                    running.remove(worker)
                    rows[worker.job.key] = row
                    if said is not None:
                        said(row, total - len(todo) - len(running), total)
    return tuple(rows[job.key] for job in jobs)


def _bytes(job: CoverageJob) -> float:
    """Guess what a job needs at its peak."""
    return _BASE_BYTES + job.entry.millions * 1e6 * _BYTES_PER_PARAMETER
