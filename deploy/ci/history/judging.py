"""Find the changes in each series, and cache them in the history file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field, TypeAdapter

from benchmarks.records.base import Record
from deploy.ci.history.database import reading, writing
from deploy.ci.history.series import COUNTED, CommitPoint, Filters, Series, by_commit, list_series, points_of
from deploy.ci.history.steps import FEWEST, RULE, Change, changes_of_counts, find_changes
from deploy.errors import ExtraMissingError, HistoryError

__all__ = ["Judged", "KeptChange", "changes_in", "is_current", "judged", "kept_changes", "mark_of", "smallest_of"]

_SMALLEST, _SMALLEST_SCORE = 0.02, 0.002
_SCORES = frozenset({"accuracy", "psnr"})


class KeptChange(Record):
    """One change of a series, with its commits."""

    commit: str = Field(description="name of the first commit after it")
    sha: str | None = Field(None, description="full hash of that commit")
    created_utc: str = Field(description="time of the first run after it")
    previous: str = Field(description="name of the last commit before it; what lies between was not measured")
    before: float
    after: float
    change: float | None = Field(description="as a share of the level before; None: that level was 0")
    low: float | None = Field(description="ends of its 95 % interval")
    high: float | None
    p: float = Field(description="p-value of the rank test; 0: counted, not measured")
    versions: tuple[str, str] | None = Field(
        None, description="versions of the backend before and after, where they differ"
    )


@dataclass(frozen=True, slots=True)
class Judged:
    """A series and its changes.

    Parameters
    ----------
    series : Series
        The series.
    changes : tuple of KeptChange or None
        The oldest first; None if they could not be searched for.
    why_not : str
        Why they could not, and what to do.
    """

    series: Series
    changes: tuple[KeptChange, ...] | None
    why_not: str = ""


_KEPT = TypeAdapter(tuple[KeptChange, ...])


def kept_changes(series: Series) -> tuple[KeptChange, ...]:
    """Return the stored changes of a series.

    Raises
    ------
    ValueError
        The content of the file is invalid.
    """
    return _KEPT.validate_json(series.changes)


def mark_of(series: Series) -> str:
    """Return what a judgement is valid for: the rule and the number of points, which are never removed."""
    return f"{RULE} {series.n_points}"


def is_current(series: Series) -> bool:
    """Return whether the judgement of a series is up to date."""
    return series.judged == mark_of(series)


def smallest_of(metric: str) -> float:
    """Return the smallest change of a metric that counts, as a share."""
    return 0.0 if metric in COUNTED else _SMALLEST_SCORE if metric in _SCORES else _SMALLEST


def changes_in(metric: str, commits: Sequence[CommitPoint]) -> tuple[KeptChange, ...]:
    """Find the changes in a series.

    Parameters
    ----------
    metric : str
        Metric of its values.
    commits : sequence of CommitPoint
        In order; those of an unfit machine are ignored.

    Raises
    ------
    ExtraMissingError
        The library that finds changes is needed and not installed.
    """
    believed = [commit for commit in commits if not commit.unfit]
    values = [commit.value for commit in believed]
    if metric in COUNTED:
        found = changes_of_counts(values)
    elif len(values) < 2 * FEWEST or min(values) <= 0:  # a score of 0 has no level to change from
        found = []
    else:
        found = find_changes(values, smallest_of(metric))
    return tuple(_kept(change, believed) for change in found)


def judged(path: Path, filters: Filters) -> list[Judged]:
    """Find changes in the series with new points, and store them if the file can be written.

    Parameters
    ----------
    path : Path
        The history.
    filters : Filters
        Which series, and the branch whose points count.

    Raises
    ------
    HistoryError
        The file is missing, not a history, or damaged.
    """
    found: list[Judged] = []
    fresh: dict[int, tuple[str, str]] = {}
    with reading(path) as connection:
        for series in list_series(connection, filters):
            if is_current(series):
                found.append(Judged(series, kept_changes(series)))
                continue
            commits = by_commit(points_of(connection, series.id, filters.branch))
            try:
                changes = changes_in(series.metric, commits)
            except ExtraMissingError as error:
                found.append(Judged(series, None, str(error)))
                continue
            found.append(Judged(series, changes))
            fresh[series.id] = mark_of(series), _KEPT.dump_json(changes).decode()
    if fresh:
        with suppress(HistoryError):  # read-only history: the next command searches again
            _keep(path, filters.branch, fresh)
    return found


def _keep(path: Path, branch: str, fresh: Mapping[int, tuple[str, str]]) -> None:
    with writing(path) as connection:
        connection.executemany(
            "INSERT OR REPLACE INTO judgements (series, branch, judged, changes) VALUES (?, ?, ?, ?)",
            [(series, branch, *kept) for series, kept in fresh.items()],
        )


def _kept(change: Change, commits: Sequence[CommitPoint]) -> KeptChange:
    first, last = commits[change.at], commits[change.at - 1]
    versions = last.points[-1].version, first.points[0].version
    share = change.change if math.isfinite(change.change) else None
    return KeptChange(
        commit=first.name,
        sha=first.points[0].sha,
        created_utc=first.points[0].created_utc,
        previous=last.name,
        before=change.before,
        after=change.after,
        change=share,
        low=None if share is None else change.low,
        high=None if share is None else change.high,
        p=change.p,
        versions=(versions[0], versions[1]) if None not in versions and versions[0] != versions[1] else None,
    )
