"""Format the numbers of a row: in its unit, with the interval, and so that limit and value look different."""

from __future__ import annotations

from deploy.ci.check_report import CheckReport, CheckRow
from deploy.ci.formats.verdict import WORDS
from deploy.report.formatting import NOTHING, count, duration, percent, rate
from deploy.report.table import Table, left

__all__ = ["allowed", "figure", "limits_table", "measured"]

_NS_PER_MS = 1e6
_MB = 10**6
_SMALL = 5e-4
"""Smaller shares are formatted with two significant digits."""


def figure(value: float, unit: str) -> str:
    """Format a number: ``figure(8.0, "ms")`` is ``"8.00 ms"``, ``figure(0.052, "share")`` is ``"5.2 %"``.

    Bytes are in the unit of the check file, 10^6.
    """
    match unit:
        case "ms":
            return duration(value * _NS_PER_MS)
        case "1/s":
            return f"{rate(value)}/s"
        case "bytes":
            return f"{value / _MB:.3g} MB" if value < 1000 * _MB else f"{value / _MB:,.0f} MB"
        case "share":
            return f"{100 * value:.2g} %" if 0 < abs(value) < _SMALL else percent(value, 1)
        case "MACs" | "parameters":
            return f"{count(round(value))} {unit}"
        case _:
            return f"{value:g} {unit}".rstrip()


def measured(row: CheckRow) -> str:
    """Format the measured value with its interval: ``"6.21 ms [6.10, 6.40]"``; ``"-"`` if there is none."""
    if row.observed is None:
        return NOTHING
    value = _written(row, row.observed)
    if row.low is None or row.high is None:
        return value
    ends = [figure(end, row.unit) for end in (row.low, row.high)]
    unit = value.rpartition(" ")[2]
    if all(end.rpartition(" ")[2] == unit for end in ends):
        ends = [end.rpartition(" ")[0] for end in ends]
    return f"{value} [{', '.join(ends)}]"


def allowed(row: CheckRow) -> str:
    """Format the limit as a number; ``"-"`` if it has none."""
    return NOTHING if row.allowed is None else _written(row, row.allowed)


def limits_table(report: CheckReport) -> Table:
    """Return all rows as a table, in the order of the check file."""
    cells = tuple((row.where, row.statement, allowed(row), measured(row), WORDS[row.verdict]) for row in report.rows)
    return Table("All limits", (*left("Model", "Limit"), "Allowed", "Measured", *left("Verdict")), cells)


def _written(row: CheckRow, value: float) -> str:
    """Format a value, in full if limit and observed value differ but would look the same."""
    if row.allowed is None or row.observed is None or row.allowed == row.observed:
        return figure(value, row.unit)
    if figure(row.allowed, row.unit) != figure(row.observed, row.unit):
        return figure(value, row.unit)
    if row.unit == "share":
        return f"{100 * value:.10g} %"
    return f"{f'{value:,.0f}' if value.is_integer() else f'{value:.12g}'} {row.unit}".rstrip()
