"""Run the missing cases one after the other, each in its own process with a time limit."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from benchmarks.process.child import sleeping_environment
from deploy.errors import SourceError
from deploy.studies.engine.process import JobProcess
from deploy.studies.engine.schedule import run_jobs
from deploy.studies.latency.rows import Case, GridRow, append, read

__all__ = ["chosen", "run_cases"]

_CHILD = "deploy.studies.latency.case"
_THREADS = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
"""Threads of torch; the measured runtime has as many as the case says."""


def chosen(cases: Sequence[Case], patterns: Sequence[str]) -> tuple[Case, ...]:
    """Return the cases whose name matches an `fnmatch` pattern; all if there are no patterns.

    Raises
    ------
    SourceError
        Nothing matches.
    """
    found = tuple(case for case in cases if any(fnmatchcase(case.name, each) for each in patterns or ("*",)))
    if not found:
        raise SourceError(f"no case matches {' or '.join(map(repr, patterns))}; they are called like {cases[0].name!r}")
    return found


def run_cases(cases: Sequence[Case], output: Path, *, time_s: float) -> tuple[GridRow, ...]:
    """Run the cases without an answer in `output` (see `GridRow.answers`), and return the rows of all.

    A case that ended without an answer (an error, its time limit, or killed) is tried again.

    Parameters
    ----------
    cases : sequence of Case
        Cases, in running order.
    output : Path
        JSON lines file.
    time_s : float
        Seconds for one case, after which its process is killed and the row says so.

    Raises
    ------
    OutputError, ResultsError
        The file cannot be written, or holds other content.
    """
    rows = read(output)
    missing = [case for case in cases if not any(row.answers(case) for row in rows)]

    def start(case: Case) -> JobProcess:
        scratch = Path(tempfile.mkdtemp(prefix="prune-deploy-"))
        (scratch / "case.json").write_text(case.model_dump_json(), encoding="utf-8")
        files = [str(scratch / name) for name in ("case.json", "row.json", "network")]
        return JobProcess(
            [_CHILD, *files],
            log=output.with_suffix(".log"),
            environment=_THREADS | sleeping_environment(),
            scratch=scratch,
            time_s=time_s,
        )

    def collect(case: Case, process: JobProcess, reason: str) -> GridRow:
        row = process.scratch / "row.json"
        if not reason and row.is_file():
            return GridRow.model_validate_json(row.read_text(encoding="utf-8"))
        return GridRow(case=case, reason=reason or "its process left no row", seconds=process.seconds)

    def report(case: Case, row: GridRow) -> None:
        append(row, output)
        sys.stderr.write(f"{case.name}: {row.landing or row.reason} ({row.seconds:.0f} s)\n")

    run_jobs(missing, start, collect, report, slots=1)
    names = {case.name for case in cases}
    return tuple(row for row in read(output) if row.case.name in names)
