"""Run the coverage study: choose networks, and run the missing jobs, several at once."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import psutil
from pydantic import ValidationError

from deploy.errors import ExtraMissingError, ResultsError, SourceError
from deploy.files.atomic import output_errors, write_file
from deploy.files.validation_errors import suggestion
from deploy.studies.coverage.catalogue import OPTIONAL_SET
from deploy.studies.coverage.clock import last_event
from deploy.studies.coverage.provenance import library_version, library_versions, source_hash
from deploy.studies.coverage.rows import CoverageJob, CoverageRow, CoverageSettings, Engine, Limits, ListedNetwork
from deploy.studies.engine.process import JobProcess
from deploy.studies.engine.schedule import run_jobs
from prune_deploy import how_to_install

__all__ = ["CHILD", "ENGINES", "choose", "collect_row", "jobs_of", "run", "start_job", "stored"]

ENGINES: tuple[Engine, ...] = ("ours", "torch-pruning")
CHILD = "deploy.studies.coverage.child"
_EVENTS = "events.jsonl"
_THREADS = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
_BYTES_PER_PARAMETER = 4 * 8
"""About eight fp32 copies: dense, masked, compact, and those of torch.export and the exporter."""
_BASE_BYTES = 1_500_000_000
_MEMORY_SHARE = 0.85

_log = logging.getLogger(__name__)


def choose(entries: Sequence[ListedNetwork], part: str, patterns: Sequence[str] = ()) -> tuple[ListedNetwork, ...]:
    """Return the networks of one set, or of all but the optional one, whose names match a pattern.

    Parameters
    ----------
    entries : sequence of ListedNetwork
        The list.
    part : str
        Name of a set, or ``"all"``.
    patterns : sequence of str
        `fnmatch` patterns for ``name`` or ``set:name``; empty: every network.

    Raises
    ------
    SourceError
        There is no such set, or nothing matches.
    """
    parts = list(dict.fromkeys(entry.set for entry in entries))
    if part != "all" and part not in parts:
        raise SourceError(f"no set of networks is called {part!r}{suggestion(part, [*parts, 'all'])}")
    chosen = tuple(
        entry
        for entry in entries
        if (entry.set != OPTIONAL_SET if part == "all" else entry.set == part)
        and any(
            fnmatchcase(name, pattern)
            for name in (entry.name, f"{entry.set}:{entry.name}")
            for pattern in patterns or ("*",)
        )
    )
    if not chosen:
        raise SourceError(f"no network of {part!r} matches {' or '.join(map(repr, patterns))}")
    return chosen


def jobs_of(
    entries: Sequence[ListedNetwork], engines: Sequence[str], settings: CoverageSettings, limits: Limits | None = None
) -> tuple[CoverageJob, ...]:
    """Make one job for each network and engine, in the order of the networks.

    Raises
    ------
    SourceError
        An engine is unknown.
    ExtraMissingError
        The other library, or one that the networks need, is not installed.
    """
    known: dict[str, Engine] = {name: name for name in ENGINES}
    for name in engines:
        if name not in known:
            raise SourceError(f"no engine is called {name!r}{suggestion(name, list(known))}")
        if name != "ours" and not library_versions(known[name])[name]:
            raise ExtraMissingError(f"{name} is not installed; {how_to_install('compare')}")
    makers = {entry.maker for entry in entries if entry.set == OPTIONAL_SET}
    if missing := sorted(maker for maker in makers if not library_version(maker)):
        raise ExtraMissingError(f"{', '.join(missing)}: not installed; {how_to_install('libraries')}")
    chosen = [known[name] for name in dict.fromkeys(engines)]
    return tuple(
        CoverageJob(
            entry=entry,
            engine=engine,
            settings=settings,
            limits=limits or Limits(),
            source=source_hash(engine),
            versions=library_versions(engine)
            | ({entry.maker: library_version(entry.maker)} if entry.set == OPTIONAL_SET else {}),
        )
        for entry in entries
        for engine in chosen
    )


def stored(folder: Path, job: CoverageJob) -> CoverageRow | None:
    """Read the row of a finished job; None if there is none, or if other limits ended it.

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
        raise ResultsError(f"{path} is not a row of this study; delete it") from error
    same_limits = row.job.limits == job.limits
    return row if row.job.key == job.key and (same_limits or not row.limited) else None


def run(
    jobs: Sequence[CoverageJob],
    folder: Path,
    *,
    at_once: int = 1,
    report: Callable[[CoverageRow, int, int], None] | None = None,
) -> tuple[CoverageRow, ...]:
    """Run the jobs whose rows are missing, each in its own process, and return all rows in job order.

    Parameters
    ----------
    jobs : sequence of CoverageJob
        Jobs; those at the front are started first.
    folder : Path
        One file per row; existing rows are not repeated.
    at_once : int
        Maximum number of processes at the same time; fewer if large networks do not fit into memory together.
    report : callable, optional
        ``report(row, number done, number of jobs to do)`` after each.

    Raises
    ------
    OutputError
        The folder cannot be written.
    ResultsError
        A file in it is damaged.
    """
    with output_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    rows = {job.key: row for job in jobs if (row := stored(folder, job)) is not None}
    missing = [job for job in jobs if job.key not in rows]
    memory, before = psutil.virtual_memory().total * _MEMORY_SHARE, len(rows)
    _log.info("%d rows are there, %d are missing", before, len(missing))

    def done(job: CoverageJob, row: CoverageRow) -> None:
        rows[job.key] = row
        if report is not None:
            report(row, len(rows) - before, len(missing))

    run_jobs(
        missing,
        lambda job: start_job(job, folder),
        lambda job, process, reason: collect_row(job, folder, process, reason),
        done,
        slots=at_once,
        fit=lambda together: sum(map(_bytes, together)) <= memory,
    )
    return tuple(rows[job.key] for job in jobs)


def start_job(job: CoverageJob, folder: Path, environment: Mapping[str, str] | None = None) -> JobProcess:
    """Start the process of one network, which writes its row to `folder`.

    Parameters
    ----------
    environment : Mapping of str to str, optional
        Variables to add.
    """
    scratch = Path(tempfile.mkdtemp(prefix="prune-deploy-"))
    (scratch / "job.json").write_text(job.model_dump_json(), encoding="utf-8")
    events = scratch / _EVENTS

    def limit() -> str:
        _, since = last_event(events)
        prune_s = job.limits.prune_s
        late = since is not None and time.time() - since > prune_s
        return f"no end of the pruning call after {prune_s:g} s" if late else ""

    return JobProcess(
        [CHILD, str(scratch / "job.json"), str(folder / job.file_name), str(events)],
        log=scratch / "log.txt",
        environment={**_THREADS, **(environment or {})},
        scratch=scratch,
        time_s=job.limits.time_s,
        memory_gb=job.limits.memory_gb,
        limit=limit,
    )


def collect_row(job: CoverageJob, folder: Path, process: JobProcess, reason: str) -> CoverageRow:
    """Read the row of a process, or write one if it left none, for example when it was killed."""
    file = folder / job.file_name
    if not reason and file.is_file():
        return CoverageRow.model_validate_json(file.read_text(encoding="utf-8"))
    phase, _ = last_event(process.scratch / _EVENTS)
    row = CoverageRow(
        job=job,
        outcome="failed",
        reason=reason or "its process left no row",
        phase=phase,
        limited=process.limited,
        seconds={"all": process.seconds},
        peak_bytes=process.peak_bytes or None,
    )
    write_file(file, row.model_dump_json(indent=1) + "\n")
    return row


def _bytes(job: CoverageJob) -> float:
    """Estimate the peak memory of a job in bytes."""
    return _BASE_BYTES + job.entry.millions * 1e6 * _BYTES_PER_PARAMETER
