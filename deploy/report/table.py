"""One table of text, the same in the terminal, on a page and in Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["MARK", "Left", "Notes", "Table", "left"]

MARK = re.compile(r"\[\d+(?:[,-]\d+)*\]$")
"""What refers to footnotes at the end of a cell."""


class Left(str):
    """Heading of a column of names or words, aligned on the left; a column with a plain heading holds numbers."""

    __slots__ = ()


def left(*headings: str) -> tuple[Left, ...]:
    """Return headings of columns that are aligned on the left."""
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
        As many cells as columns each.
    notes : tuple of str
        Footnotes; cells refer to them by ``[1]``, ``[2-4]``.
    caption : str
        One line of explanation.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    caption: str = ""

    def is_left(self, index: int) -> bool:
        """Return whether a column is aligned on the left."""
        return isinstance(self.columns[index], Left)


class Notes:
    """Footnotes of one table in the order in which they are first referred to; equal texts share a number."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    @property
    def texts(self) -> tuple[str, ...]:
        """The footnotes, in order."""
        return tuple(self._numbers)

    def after(self, cell: str, notes: Iterable[str]) -> str:
        """Return the cell with one mark for all its footnotes behind it: ``"small [1-3,5]"``; empty notes are none.

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
