"""Text from outside, as it is shown: what would steer a terminal or turn the text around is written as its code.

Names of models, nodes and files, and what runtimes say of them, may hold anything. They are made harmless where they
leave: in the streams of a command (`printable_streams`), in the cells of a table, and in a finished page.
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
"""What sets bold and dim, and nothing else."""


def printable(text: str, keep: str = "") -> str:
    r"""Write control characters, marks of direction and lone surrogates as JSON does: ``\u001b``, ``\n``, ``\u202e``.

    Parameters
    ----------
    text : str
        Any.
    keep : str
        Control characters that stay.
    """
    if text.isprintable():
        return text
    return "".join(letter if _is_shown(letter) or letter in keep else json.dumps(letter)[1:-1] for letter in text)


def over_the_last_line(stream: TextIO, line: str) -> None:
    """Write one `printable` line over the one that stands on a terminal, without ending it."""
    own = stream._stream if isinstance(stream, _Printable) else stream
    own.write(f"\r\x1b[2K{printable(line)}")
    own.flush()


@contextmanager
def printable_streams() -> Iterator[None]:
    """Let standard output and error show `printable` text only, lines and tabs apart; on a terminal styles as well."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (cast("TextIO", _Printable(stream)) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


class _Printable:
    """A text stream whose `write` is tamed; all else is the stream's own."""

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
