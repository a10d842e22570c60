"""What is known about the changes of each series, kept in the history so that a list need not look for them again."""

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
    """One change of a series, by its commits."""

    commit: str = Field(description="name of the first commit after it")
    sha: str | None = Field(None, description="whole hash of that commit")
    created_utc: str = Field(description="of the first run after it")
    previous: str = Field(description="name of the last commit before it; what lies between was not measured")
    before: float
    after: float
    change: float | None = Field(description="as a share of the level before; None: that was 0")
    low: float | None = Field(description="ends of its 95 % interval")
    high: float | None
    p: float = Field(description="of the rank test; 0: counted, not measured")
    versions: tuple[str, str] | None = Field(None, description="of the backend, where they differ before and after")


@dataclass(frozen=True, slots=True)
class Judged:
    """A series, and where it changed.

    Parameters
    ----------
    series : Series
        Which.
    changes : tuple of KeptChange or None
        The oldest first; None where nobody could look.
    why_not : str
        Why nobody could, and what to do.
    """

    series: Series
    changes: tuple[KeptChange, ...] | None
    why_not: str = ""


_KEPT = TypeAdapter(tuple[KeptChange, ...])


def kept_changes(series: Series) -> tuple[KeptChange, ...]:
    """Return what was found when the series was judged.

    Raises
    ------
    ValueError
        What stands in the file makes no sense.
    """
    return _KEPT.validate_json(series.changes)


def mark_of(series: Series) -> str:
    """Return what a judgement is good for: the rule, and how many points there are; none is ever taken out."""
    return f"{RULE} {series.n_points}"


def is_current(series: Series) -> bool:
    """Return whether a series was judged as it is now."""
    return series.judged == mark_of(series)


def smallest_of(metric: str) -> float:
    """Return the smallest change of a metric that counts, as a share."""
    return 0.0 if metric in COUNTED else _SMALLEST_SCORE if metric in _SCORES else _SMALLEST


def changes_in(metric: str, commits: Sequence[CommitPoint]) -> tuple[KeptChange, ...]:
    """Look for changes in a series.

    Parameters
    ----------
    metric : str
        What its values are.
    commits : sequence of CommitPoint
        In order. Those of an unfit machine are left out.

    Raises
    ------
    ExtraMissingError
        The library that finds them is not installed, and it is needed.
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
    """Look for changes in the series that have new points, and keep what was found in the file if it can be written.

    Parameters
    ----------
    path : Path
        The history.
    filters : Filters
        Which series, and by the points of which branch.

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
        with suppress(HistoryError):  # a history that may only be read: the next command looks again
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
