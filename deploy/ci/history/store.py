"""Add runs to a history file and read them back; ``deploy check --history`` calls `add_report`."""

from __future__ import annotations

import sqlite3
import sys
import zlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from benchmarks.records.measurement import Environment
from deploy.ci.check_report import CheckReport, CheckRow, Commit
from deploy.ci.history.database import reading, writing
from deploy.ci.history.derive import run_of_report
from deploy.ci.history.judging import judged
from deploy.ci.history.records import KeptMeasurement, KeptPoint, KeptRun, SeriesKey
from deploy.ci.history.series import Filters

__all__ = ["add_report", "add_runs", "read_runs", "require_history"]

_KEY = tuple(SeriesKey.model_fields)
_POINT = ("value", "low", "high", "confidence", "n", "unfit", "sha256", "against", "version")
_SAMPLE_BYTES = 8


def add_report(path: Path, report: CheckReport) -> int:
    """Add a check report to a history, created if missing; waits for other writers.

    If the extra ``history`` is installed, the series that got a point are searched for changes.

    Parameters
    ----------
    path : Path
        The history file.
    report : CheckReport
        A finished report.

    Returns
    -------
    int
        Number of points added; 0 if the history already has this report.

    Raises
    ------
    HistoryError
        The file cannot be written, is not a history, or is of a newer version. Nothing was added.
    """
    if added := add_runs(path, [run_of_report(report)]):
        judged(path, Filters())
    return added


def require_history(path: Path) -> None:
    """Check in advance that runs can be added to a history; a missing one is created empty.

    Raises
    ------
    HistoryError
        The file cannot be written, is not a history, or is of a newer version.
    """
    with writing(path):
        pass


def add_runs(path: Path, runs: Iterable[KeptRun]) -> int:
    """Add runs to a history, all or none; runs it already has are skipped.

    Parameters
    ----------
    path : Path
        The history file, created if missing.
    runs : iterable of KeptRun
        In any order.

    Returns
    -------
    int
        Number of points added.

    Raises
    ------
    HistoryError
        The file cannot be written, is not a history, or is of a newer version.
    """
    ready = [(run, run.content) for run in runs]
    with writing(path) as connection:
        return sum(_add(connection, run, content) for run, content in ready)


def read_runs(path: Path) -> Iterator[KeptRun]:
    """Yield every run of a history, the oldest first.

    Raises
    ------
    HistoryError
        The file is missing, not a history, or damaged.
    """
    with reading(path) as connection:
        for row in connection.execute("SELECT * FROM runs ORDER BY position, content"):
            yield _read(connection, row)


def _add(connection: sqlite3.Connection, run: KeptRun, content: str) -> int:
    if connection.execute("SELECT 1 FROM runs WHERE content = ?", (content,)).fetchone():
        return 0
    commit = run.commit
    number = _insert(
        connection,
        "runs",
        {
            "content": content,
            "position": run.position,
            "created_utc": run.created_utc,
            "source": run.source,
            "title": run.title,
            "tool_version": run.tool_version,
            "machine": run.machine,
            "environment": run.environment.model_dump_json(),
            "sha": commit and commit.sha,
            "committed_utc": commit and commit.committed_utc,
            "branch": commit and commit.branch,
            "dirty": commit is not None and commit.dirty,
        },
    )
    for place, measurement in enumerate(run.measurements):
        record = measurement.model_dump_json(exclude={"trials"})
        kept = _insert(connection, "measurements", {"run": number, "place": place, "record": record})
        for trial, calls in enumerate(measurement.trials):
            row = {"measurement": kept, "trial": trial, "n": len(calls), "calls": _packed(calls)}
            _insert(connection, "samples", row)
    for place, point in enumerate(run.points):
        row = {name: getattr(point, name) for name in _POINT}
        where = {"series": _series(connection, point.key), "run": number, "place": place, "position": run.position}
        _insert(connection, "points", where | row)
    for place, limit in enumerate(run.limits):
        _insert(connection, "limits", {"run": number, "place": place, "row": limit.model_dump_json()})
    return len(run.points)


def _insert(connection: sqlite3.Connection, table: str, row: dict[str, object]) -> int:
    names, marks = ", ".join(row), ", ".join("?" * len(row))
    done = connection.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", tuple(row.values()))
    return int(done.lastrowid or 0)


def _series(connection: sqlite3.Connection, key: SeriesKey) -> int:
    given = key.model_dump()
    same = " AND ".join(f"{name} = :{name}" for name in _KEY)
    if found := connection.execute(f"SELECT id FROM series WHERE {same}", given).fetchone():
        return int(found[0])
    return _insert(connection, "series", given)


def _read(connection: sqlite3.Connection, row: sqlite3.Row) -> KeptRun:
    run = row["id"]
    measurements = []
    for kept in connection.execute("SELECT id, record FROM measurements WHERE run = ? ORDER BY place", (run,)):
        trials = connection.execute("SELECT n, calls FROM samples WHERE measurement = ? ORDER BY trial", (kept["id"],))
        bare = KeptMeasurement.model_validate_json(kept["record"])
        measurements.append(bare.model_copy(update={"trials": tuple(_unpacked(*one) for one in trials)}))
    columns = ", ".join([*(f"points.{name}" for name in _POINT), *(f"series.{name} AS key_{name}" for name in _KEY)])
    points = connection.execute(
        f"SELECT {columns} FROM points JOIN series ON series.id = series WHERE run = ? ORDER BY place",
        (run,),
    )
    limits = connection.execute("SELECT row FROM limits WHERE run = ? ORDER BY place", (run,))
    commit = None
    if row["sha"] is not None:
        names = ("sha", "committed_utc", "branch", "dirty")
        commit = Commit.model_validate({name: row[name] for name in names})
    return KeptRun(
        created_utc=row["created_utc"],
        source=row["source"],
        title=row["title"],
        tool_version=row["tool_version"],
        machine=row["machine"],
        environment=Environment.model_validate_json(row["environment"]),
        commit=commit,
        measurements=tuple(measurements),
        points=tuple(_point(one) for one in points),
        limits=tuple(CheckRow.model_validate_json(one["row"]) for one in limits),
    )


def _point(row: sqlite3.Row) -> KeptPoint:
    key = {name: row[f"key_{name}"] for name in _KEY}
    return KeptPoint.model_validate({"key": key, **{name: row[name] for name in _POINT}})


def _packed(calls: Sequence[int]) -> bytes:
    return zlib.compress(_little(array("q", calls)).tobytes())


def _unpacked(n: int, packed: bytes) -> tuple[int, ...]:
    """Unpack `n` samples, and no more.

    Raises
    ------
    ValueError
        The samples are damaged.
    """
    stream = zlib.decompressobj()
    try:
        raw = stream.decompress(packed, _SAMPLE_BYTES * n + 1)
    except zlib.error as error:
        raise ValueError(f"samples are damaged: {error}") from error
    if len(raw) != _SAMPLE_BYTES * n or not stream.eof:
        raise ValueError(f"samples are damaged: {n} were kept, {len(raw)} bytes are left")
    calls = array("q")
    calls.frombytes(raw)
    return tuple(_little(calls))


def _little(values: array[int]) -> array[int]:
    """Swap the bytes of each number on a big-endian machine."""
    if sys.byteorder == "big":
        values.byteswap()
    return values
