"""Format a history: values by metric, changes, and the tables of the commands list and show."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from deploy.ci.history.judging import Judged, KeptChange, is_current, kept_changes
from deploy.ci.history.series import COUNTED, CommitPoint, Series
from deploy.ci.history.steps import FEWEST
from deploy.report.formatting import NOTHING, count, duration, percent, rate, ratio, size
from deploy.report.table import Left, Table, left

__all__ = [
    "CHANGE_WORDS",
    "COUNTED_WORDS",
    "METRICS",
    "about",
    "as_lines",
    "change_line",
    "change_words",
    "interval_words",
    "open_commits",
    "point_table",
    "series_table",
    "title_of",
    "value_words",
]

METRICS = {
    "p50_ns": "p50",
    "p90_ns": "p90",
    "p99_ns": "p99",
    "throughput_per_s": "throughput",
    "peak_bytes": "peak memory",
    "load_ns": "load time",
    "speedup": "speed-up",
    "accuracy": "accuracy",
    "psnr": "PSNR",
    "file_bytes": "file size",
    "macs": "MACs",
    "parameters": "parameters",
}
"""Display name of each metric."""

CHANGE_WORDS = (
    "Changes are those of the level, each with its 95 % interval and the p-value of a rank test. Nothing is said of "
    f"the newest {FEWEST - 1} commits: a change wants {FEWEST} behind it."
)
COUNTED_WORDS = "Counted, not measured: every change is shown."

_OF_NOTE = ("branch", "interval", "runs", "backend")
"""Columns that a table omits if they are the same in each row."""
_SHOWN_OF_MACHINE = 8


def value_words(metric: str, value: float) -> str:
    """Format a value: ``value_words("p50_ns", 1.234e6)`` is ``"1.234 ms"``."""
    match metric:
        case "p50_ns" | "p90_ns" | "p99_ns" | "load_ns":
            return duration(value)
        case "peak_bytes" | "file_bytes":
            return size(round(value))
        case "throughput_per_s":
            return f"{rate(value)}/s"
        case "speedup":
            return ratio(value)
        case "accuracy":
            return percent(value, 2)
        case "psnr":
            return f"{value:.2f} dB"
        case _:
            return count(round(value))


def change_words(metric: str, change: KeptChange) -> str:
    """Format the size of a change: ``"+5.1 % [4.7, 5.5]"``."""
    if change.change is None or change.low is None or change.high is None:
        return f"from {value_words(metric, change.before)}"
    if metric in COUNTED:
        return _signed(change.change)
    return f"{_signed(change.change)} [{100 * change.low:+.1f}, {100 * change.high:+.1f}]"


def title_of(series: Series) -> str:
    """Return the title of a series: ``"classifier, p50 on ort, 2 threads"``."""
    return f"{series.model}, {METRICS.get(series.metric, series.metric)}{f' on {series.place}' if series.place else ''}"


def series_table(every: Sequence[Series]) -> Table:
    """Return one row per series: number of points, last value, last change."""
    rows = []
    for series in every:
        last = "not looked for yet"
        if is_current(series):
            found = kept_changes(series)
            last = f"{change_words(series.metric, found[-1])} in {found[-1].commit}" if found else "none"
        rows.append(
            (
                str(series.id),
                series.model,
                series.place or NOTHING,
                METRICS.get(series.metric, series.metric),
                series.machine[:_SHOWN_OF_MACHINE] or "any",
                str(series.n_points),
                value_words(series.metric, series.last),
                last,
            )
        )
    columns = ("series", *left("model", "on", "metric", "machine"), "points", "last", *left("last change"))
    return Table("Series", columns, tuple(rows))


def point_table(one: Judged, commits: Sequence[CommitPoint]) -> Table:
    """Return one row per commit of a series, the oldest first, with its changes.

    Parameters
    ----------
    one : Judged
        The series.
    commits : sequence of CommitPoint
        Its commits.
    """
    metric = one.series.metric
    changes = {(change.sha, change.created_utc): change for change in one.changes or ()}
    not_judged = set(map(id, open_commits(metric, commits)))
    rows = []
    for commit in commits:
        first, newest = commit.points[0], commit.points[-1]
        said = []
        if change := changes.get((first.sha, first.created_utc)):
            said.append(change_line(metric, change))
        if commit.unfit:
            said.append("machine not fit: not judged")
        elif id(commit) in not_judged:
            said.append("not judged yet")
        rows.append(
            {
                Left("time (UTC)"): newest.created_utc[:16].replace("T", " "),
                Left("commit"): commit.name,
                Left("branch"): first.branch or NOTHING,
                "value": value_words(metric, commit.value),
                "interval": interval_words(metric, commit),
                "runs": str(len(commit.points)),
                Left("backend"): newest.version or NOTHING,
                Left("change"): "; ".join(said),
            }
        )
    # A column that is the same in every row is omitted, or mentioned once in the caption.
    spare = {name for name in _OF_NOTE if len({row[name] for row in rows}) == 1}
    columns = tuple(name for name in rows[0] if name not in spare)
    return Table(
        f"{title_of(one.series)} (series {one.series.id})",
        columns,
        tuple(tuple(row[name] for name in columns) for row in rows),
        caption=f"{about(one, commits)} {_explained(one)}",
    )


def change_line(metric: str, change: KeptChange) -> str:
    """Describe a change: its size, the commits it lies between, and its p-value."""
    parts = [f"{change_words(metric, change)} between {change.previous} and {change.commit}"]
    if metric not in COUNTED:
        parts.append(f"p = {change.p:.1g}")
    if change.versions is not None:
        parts.append(f"the backend went from {change.versions[0]} to {change.versions[1]}")
    return ", ".join(parts)


def open_commits(metric: str, commits: Sequence[CommitPoint]) -> list[CommitPoint]:
    """Return the newest commits, too few yet to reveal a change that starts there."""
    believed = [commit for commit in commits if not commit.unfit]
    return [] if metric in COUNTED else believed[max(0, len(believed) - FEWEST + 1) :]


def about(one: Judged, commits: Sequence[CommitPoint]) -> str:
    """Describe what all points of a series share, and why its changes are unknown, if they are."""
    points = [point for commit in commits for point in commit.points]
    branches, versions = ({getattr(point, name) for point in points} for name in ("branch", "version"))
    parts = [f"machine {one.series.machine}" if one.series.machine else "the same on every machine"]
    parts += [f"branch {name}" for name in branches if len(branches) == 1 and name]
    parts += [f"backend {version}" for version in versions if len(versions) == 1 and version]
    said = f"{', '.join(parts)}."
    unknown = f" Changes were not looked for: {one.why_not}." if one.changes is None else ""
    return f"{said[0].upper()}{said[1:]}{unknown}"


def interval_words(metric: str, commit: CommitPoint) -> str:
    """Format the confidence interval of a commit that was measured once."""
    point = commit.points[0]
    if len(commit.points) > 1 or point.low is None or point.high is None:
        return NOTHING
    ends = [value_words(metric, end) for end in (point.low, point.high)]
    unit = ends[1].rpartition(" ")[2]
    if all(end.endswith(f" {unit}") for end in ends):
        ends = [end.removesuffix(f" {unit}") for end in ends]
    return f"[{', '.join(ends)}]"


def as_lines(table: Table) -> Iterator[str]:
    """Format a table as one line per row, as wide as needed: fast for many rows, and suited to `grep`."""
    every = [tuple(map(str, table.columns)), *table.rows]
    widths = [max(map(len, column)) for column in zip(*every, strict=True)]
    for row in every:
        cells = [
            cell.ljust(width) if table.is_left(index) else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()


def _signed(share: float) -> str:
    return f"{100 * share:+.1f} %"


def _explained(one: Judged) -> str:
    if one.series.metric in COUNTED:
        return COUNTED_WORDS
    few = f"Too few commits to tell a change: {2 * FEWEST} are the least. " if one.series.n_points < 2 * FEWEST else ""
    return f"{few}{CHANGE_WORDS}"
