"""Layers as shown in Python: `repr`, notebook view, and the rows of a data frame."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from math import nan
from typing import TYPE_CHECKING, Any

from benchmarks.layers.comparison import LayerReport
from benchmarks.layers.layer_profile import LayerProfile
from deploy.files.printable import printable
from deploy.report.layer_tables import comparison_tables, profile_tables
from deploy.report.table import Table
from deploy.results.frame import frame_of

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ShownLayers"]

_TOP = 10
"""Number of layers shown in a row of their own."""
_MOST = 1900
"""Most characters of a `repr`."""


class ShownLayers(LayerReport):
    """What `deploy.layers` returns: a `LayerReport` that a notebook shows as tables; `to_frame` has every layer."""

    def __repr__(self) -> str:
        lines = [line for table in self._tables() for line in (table.title, *map(_line, table.rows))]
        text = "\n  ".join(printable(line) for line in ("Layers:", *lines))
        return text if len(text) <= _MOST else f"{text[:_MOST]}..."

    def _repr_html_(self) -> str:
        return "".join(map(_html, self._tables()))

    def to_frame(self) -> pd.DataFrame:
        """Return one row for each layer of each model on each backend, in execution order.

        Times are in nanoseconds for the whole batch; numbers are floats, NaN if unknown. Layers of two models that do
        the same work have the same ``pair``; it is empty if one model was profiled alone.

        Raises
        ------
        ExtraMissingError
            pandas is not installed.
        """
        rows = [row for profile in self.profiles for row in _rows(profile, {})]
        for one in self.comparisons:
            rows += _rows(one.baseline, {name: pair.name for pair in one.pairs for name in pair.baseline_layers})
            rows += _rows(one.candidate, {name: pair.name for pair in one.pairs for name in pair.candidate_layers})
        return frame_of(rows)

    def _tables(self) -> Iterator[Table]:
        for profile in self.profiles:
            yield profile_tables(profile, _TOP)[0]
        for comparison in self.comparisons:
            yield comparison_tables(comparison, _TOP)[0]


def _rows(profile: LayerProfile, pairs: dict[str, str]) -> Iterator[dict[str, Any]]:
    subject = profile.subject
    for row in profile.rows:
        numbers = {
            "macs": row.macs,
            "moved_bytes": row.moved_bytes,
            "time_ns": row.time_ns,
            "share": row.share,
            "roofline_share": row.roofline_share,
        }
        yield {
            "model": printable(subject.label),
            "backend": subject.backend,
            "threads": subject.threads,
            "batch": subject.batch,
            "layer": printable(row.name),
            "kind": row.kind,
            "operators": printable("+".join(row.ops)),
            **{name: nan if number is None else float(number) for name, number in numbers.items()},
            "pair": printable(pairs.get(row.name, "")),
        }


def _line(cells: tuple[str, ...]) -> str:
    return "  " + "  ".join(cell for cell in cells if cell)


def _html(table: Table) -> str:
    head = "".join(f"<th>{_safe(title)}</th>" for title in table.columns)
    body = "".join("<tr>" + "".join(f"<td>{_safe(cell)}</td>" for cell in row) + "</tr>" for row in table.rows)
    notes = "".join(f"<br>[{number}] {_safe(note)}" for number, note in enumerate(table.notes, 1))
    return (
        f"<div><b>{_safe(table.title)}</b><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        f"{_safe(table.caption)}{notes}</div>"
    )


def _safe(text: str) -> str:
    return escape(printable(text))
