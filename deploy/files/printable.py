"""Make external text safe to show: terminal control characters and marks that reverse text are escaped.

Names of models, nodes and files, and messages of runtimes, may hold anything. They are escaped on output: in the
streams of a command (`printable_streams`), in the cells of a table, and in a finished page.
"""

from __future__ import annotations

import json
import re
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

__all__ = ["over_the_last_line", "printable", "printable_streams"]

_STYLE = re.compile(r"(\x1b\[[0-9;]*m)")
"""Escape sequences that set the text style, and nothing else."""


def printable(text: str, keep: str = "") -> str:
    r"""Escape control characters, direction marks and lone surrogates as JSON does: ``\u001b``, ``\n``, ``\u202e``.

    Parameters
    ----------
    text : str
        Any.
    keep : str
        Control characters to keep.
    """
    if text.isprintable():
        return text
    return "".join(letter if _is_shown(letter) or letter in keep else json.dumps(letter)[1:-1] for letter in text)


def over_the_last_line(stream: TextIO, line: str) -> None:
    """Overwrite the current line of a terminal with one `printable` line, without a line break."""
    own = stream._stream if isinstance(stream, _Printable) else stream
    own.write(f"\r\x1b[2K{printable(line)}")
    own.flush()


@contextmanager
def printable_streams() -> Iterator[None]:
    """Make all output `printable` except line breaks and tabs, and on a terminal also styles."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (cast("TextIO", _Printable(stream)) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


class _Printable:
    """A text stream whose `write` makes text printable; everything else is the stream's own."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        parts = _STYLE.split(text) if self._stream.isatty() else [text]
        tamed = (part if index % 2 else printable(part, "\n\t") for index, part in enumerate(parts))
        self._stream.write("".join(tamed))
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        for line in lines:
            self.write(line)


def _is_shown(letter: str) -> bool:
    return letter.isprintable() or unicodedata.category(letter) == "Zs"
