"""Read a history by series: list the series, and read the points of one in commit order."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import get_args

from deploy.ci.history.records import Metric

__all__ = ["COUNTED", "CommitPoint", "Filters", "Point", "Series", "by_commit", "list_series", "points_of"]

_ORDER = {metric: number for number, metric in enumerate(get_args(Metric))}

COUNTED = frozenset({"file_bytes", "macs", "parameters"})
"""Metrics that are counted, not measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Filters on series and their points; an empty filter matches all.

    Parameters
    ----------
    models, backends, metrics : sequence of str
        Names.
    machines : sequence of str
        Prefixes of fingerprints.
    branch : str
        Points of runs on this branch only.
    numbers : sequence of int
        Numbers of series.
    """

    models: Sequence[str] = ()
    backends: Sequence[str] = ()
    metrics: Sequence[str] = ()
    machines: Sequence[str] = ()
    branch: str = ""
    numbers: Sequence[int] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One series and its newest point.

    Parameters
    ----------
    id : int
        Its number in this file.
    model, backend, machine, metric : str
        See `deploy.ci.history.records.SeriesKey`.
    place : str
        Backend and options in readable form; empty if the series does not depend on them.
    n_points : int
        Number of points, on the requested branch.
    last : float
        Value of the newest point.
    last_utc : str
        When it was measured.
    last_sha : str or None
        Hash of its commit.
    judged : str
        Mark of the last search for changes; empty if there was none.
    changes : str
        The changes found, as JSON.
    """

    id: int
    model: str
    backend: str
    machine: str
    metric: str
    place: str
    n_points: int
    last: float
    last_utc: str
    last_sha: str | None
    judged: str
    changes: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One point of a series, with the fields of its row and its run."""

    value: float
    low: float | None
    high: float | None
    n: int | None
    unfit: bool
    sha256: str
    version: str | None
    created_utc: str
    sha: str | None
    committed_utc: str | None
    branch: str | None
    dirty: bool


@dataclass(frozen=True, slots=True)
class CommitPoint:
    """All points of one commit, joined.

    Parameters
    ----------
    value : float
        Their median, over the points of a fit machine if there are any.
    points : tuple of Point
        In the order of their runs.
    """

    value: float
    points: tuple[Point, ...]

    @property
    def unfit(self) -> bool:
        """Whether all its points come from an unfit machine."""
        return all(point.unfit for point in self.points)

    @property
    def name(self) -> str:
        """Short hash, with ``+`` if files differed from the commit; without a commit, the time of the run."""
        first = self.points[0]
        if first.sha is None:
            return first.created_utc[:16].replace("T", " ")
        return f"{first.sha[:10]}{'+' if first.dirty else ''}"


def list_series(connection: sqlite3.Connection, filters: Filters) -> list[Series]:
    """Return the series that pass: by model, place, metric and machine; those without a place come last.

    Parameters
    ----------
    connection : sqlite3.Connection
        Connection to a history, see `deploy.ci.history.database.reading`.
    filters : Filters
        Which series.
    """
    wanted, given = _where(filters)
    branch = "WHERE run IN (SELECT id FROM runs WHERE branch = ?)" if filters.branch else ""
    rows = connection.execute(
        f"""
        WITH newest AS (  -- with a single max() SQLite takes the other columns from the row of the maximum
            SELECT series, count(*) AS n_points, max(position), value, run FROM points {branch} GROUP BY series
        )
        SELECT series.*, n_points, newest.value AS last, runs.created_utc AS last_utc, runs.sha AS last_sha,
               coalesce(judged, '') AS judged, coalesce(changes, '[]') AS changes
        FROM newest
        JOIN series ON series.id = newest.series
        JOIN runs ON runs.id = newest.run
        LEFT JOIN judgements ON judgements.series = newest.series AND judgements.branch = ?
        {wanted}
        ORDER BY model, backend = '', backend, precision, threads, batch, more
        """,
        (*([filters.branch] if filters.branch else []), filters.branch, *given),
    )
    names = ("id", "model", "backend", "machine", "metric", "n_points", "last", "last_utc", "last_sha")
    return [Series(**{name: row[name] for name in (*names, "judged", "changes")}, place=_place(row)) for row in rows]


def points_of(connection: sqlite3.Connection, series: int, branch: str = "") -> list[Point]:
    """Return the points of a series, sorted by the time of the commit, then of the run.

    Parameters
    ----------
    connection : sqlite3.Connection
        Connection to a history.
    series : int
        Its number.
    branch : str, default=""
        Only points of this branch; empty: all.
    """
    of = "AND branch = ?" if branch else ""
    rows = connection.execute(
        f"""
        SELECT value, low, high, n, unfit, sha256, version, created_utc, sha, committed_utc, branch, dirty
        FROM points JOIN runs ON runs.id = run WHERE series = ? {of} ORDER BY points.position, points.run
        """,
        (series, *([branch] if branch else [])),
    )
    return [Point(**{**dict(row), "unfit": bool(row["unfit"]), "dirty": bool(row["dirty"])}) for row in rows]


def by_commit(points: Iterable[Point]) -> list[CommitPoint]:
    """Join the points of each commit.

    A point with uncommitted changes, or without a known commit, stays separate.
    """
    groups: dict[object, list[Point]] = {}
    for number, point in enumerate(points):
        alone = point.sha is None or point.dirty
        groups.setdefault(number if alone else point.sha, []).append(point)
    joined = []
    for group in groups.values():
        believed = [point.value for point in group if not point.unfit] or [point.value for point in group]
        joined.append(CommitPoint(median(believed), tuple(group)))
    return joined


def _where(filters: Filters) -> tuple[str, list[str | int]]:
    parts: list[str] = []
    given: list[str | int] = []
    exact: Iterator[tuple[str, Sequence[str | int]]] = iter(
        (
            ("series.id", filters.numbers),
            ("series.model", filters.models),
            ("series.backend", filters.backends),
            ("series.metric", filters.metrics),
        )
    )
    for column, names in exact:
        if names:
            parts.append(f"{column} IN ({', '.join('?' * len(names))})")
            given += names
    if filters.machines:
        parts.append(f"({' OR '.join(['substr(series.machine, 1, length(?)) = ?'] * len(filters.machines))})")
        given += [text for machine in filters.machines for text in (machine, machine)]
    return (f"WHERE {' AND '.join(parts)}" if parts else ""), given


def _place(row: sqlite3.Row) -> str:
    """Format backend and options in readable form."""
    if not row["backend"]:
        return ""
    threads = f"{row['threads']} {'thread' if row['threads'] == 1 else 'threads'}"
    said = [row["backend"], *([] if row["precision"] == "fp32" else [row["precision"]]), threads]
    said += [] if row["batch"] == 1 else [f"batch {row['batch']}"]
    more = json.loads(row["more"]) if row["more"] else {}
    return ", ".join([*said, *(f"{name} {_plain(value)}" for name, value in more.items())])


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
