"""Text table, the same in the terminal, on a page and in Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["MARK", "Left", "Notes", "Table", "left"]

MARK = re.compile(r"\[\d+(?:[,-]\d+)*\]$")
"""Footnote reference at the end of a cell."""


class Left(str):
    """Heading of a left-aligned column of names or words; columns with a plain heading hold numbers."""

    __slots__ = ()


def left(*headings: str) -> tuple[Left, ...]:
    """Return the headings of left-aligned columns."""
    return tuple(map(Left, headings))


@dataclass(frozen=True, slots=True)
class Table:
    """One table.

    Parameters
    ----------
    title : str
        Its heading.
    columns : tuple of str
        Headings of the columns; `Left` ones hold names or words.
    rows : tuple of tuple of str
        Each has one cell per column.
    notes : tuple of str
        Footnotes; cells refer to them as ``[1]``, ``[2-4]``.
    caption : str
        One line of explanation.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    caption: str = ""

    def is_left(self, index: int) -> bool:
        """Return whether a column is left-aligned."""
        return isinstance(self.columns[index], Left)


class Notes:
    """Footnotes of one table, in order of first reference; equal texts share a number."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    @property
    def texts(self) -> tuple[str, ...]:
        """The footnotes, in order."""
        return tuple(self._numbers)

    def after(self, cell: str, notes: Iterable[str]) -> str:
        """Return the cell followed by one mark for all its footnotes: ``"small [1-3,5]"``; empty notes are ignored.

        >>> Notes().after("small", ["busy", "hot", "busy"])
        'small [1-2]'
        """
        numbers = sorted({self._numbers.setdefault(note, len(self._numbers) + 1) for note in notes if note})
        spans: list[list[int]] = []
        for number in numbers:
            if spans and spans[-1][1] == number - 1:
                spans[-1][1] = number
            else:
                spans.append([number, number])
        mark = ",".join(str(first) if first == last else f"{first}-{last}" for first, last in spans)
        return f"{cell} [{mark}]".lstrip() if mark else cell
