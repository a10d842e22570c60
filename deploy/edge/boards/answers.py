"""Parse the answer of a board within size limits; none of it is trusted before it is checked.

The answer starts with a token that only this call knows: anything a login shell prints before it is skipped. Lines of
text follow and, after a line that announces it, the bytes of one file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeGuard

from backends.reading.files import strict_json
from benchmarks.process.child import last_words
from deploy.errors import BoardError

__all__ = ["MOST_BYTES", "Answers", "garbage", "is_size", "message"]

MOST_BYTES = 128 << 20
"""Size limit of a result; a bench of an hour is a few megabytes."""
_MOST_BEFORE = 1 << 16
_MOST_OF_A_LINE = 1 << 16
_MOST_LINES, _MOST_OF_LINES = 100_000, 16 << 20


class Answers:
    """Parser for the answer to one call to a board.

    Parameters
    ----------
    board : str
        Name of the board, for messages.
    token : str
        Token that the answer starts with.
    hear : callable
        Receives each line; returns True if it was the last one.
    """

    def __init__(self, board: str, token: str, hear: Callable[[str], bool]) -> None:
        self._board = board
        self._mark = f"{token}\n".encode()
        self._hear = hear
        self._begun = False
        self._buffer = b""
        self._heard = self._lines = 0
        self._file: Any = None
        self._left = 0
        self._digest = hashlib.sha256()

    @property
    def begun(self) -> bool:
        """Whether the answer has started, so the other side is ours."""
        return self._begun

    def take(self, block: bytes) -> bool:
        """Take a block of the answer; return True if the answer is complete.

        Raises
        ------
        BoardError
            The answer is too long, or not text.
        """
        if self._receives():
            return self._receive(block)
        self._buffer += block
        if not self._begun:
            before, mark, rest = self._buffer.partition(self._mark)
            if not mark:
                if len(before) > _MOST_BEFORE:
                    raise BoardError(
                        f"{self._board} prints {_MOST_BEFORE:,} bytes or more before it runs the command: check "
                        "what its login shell prints"
                    )
                return False
            self._begun, self._buffer = True, rest
        while b"\n" in self._buffer:
            line, _, self._buffer = self._buffer.partition(b"\n")
            self._heard += len(line) + 1
            self._lines += 1
            if self._heard > _MOST_OF_LINES or self._lines > _MOST_LINES or len(line) > _MOST_OF_A_LINE:
                raise garbage(self._board, "it is too long")
            if self._hear(line.decode(errors="replace")):
                return True
            if self._receives():  # `hear` has called `receive`
                first, self._buffer = self._buffer, b""
                return self._receive(first)
        if len(self._buffer) > _MOST_OF_A_LINE:
            raise garbage(self._board, "it is too long")
        return False

    def receive(self, size: object, path: Path) -> None:
        """Write the bytes that follow this line to a file.

        Raises
        ------
        BoardError
            The file is larger than `MOST_BYTES`.
        """
        if not is_size(size) or size > MOST_BYTES:
            raise garbage(self._board, f"a result of {str(size)[:40]} bytes")
        self._left = size
        self._file = path.open("wb")

    def _receives(self) -> bool:
        return self._file is not None

    @property
    def before(self) -> str:
        """Output before the answer, as text."""
        return "" if self._begun else self._buffer.decode(errors="replace")

    @property
    def sha256(self) -> str:
        """Hash of the received file."""
        return self._digest.hexdigest()

    def close(self) -> bool:
        """Close the open file; return whether an announced file is complete."""
        if self._file is None:
            return False
        self._file.close()
        return self._left == 0

    def _receive(self, block: bytes) -> bool:
        block = block[: self._left]
        self._file.write(block)
        self._digest.update(block)
        self._left -= len(block)
        return self._left == 0


def is_size(value: object) -> TypeGuard[int]:
    """Return whether a value is a plausible number of bytes on a disk."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 60


def garbage(board: str, why: str = "") -> BoardError:
    """Return the error for a board whose answer is not ours."""
    return BoardError(f"{board} answers with garbage{f' ({why})' if why else ''}: none of it was used")


def message(board: str, line: str) -> dict[str, Any]:
    """Parse one line as the JSON object that our agent on the board writes.

    Raises
    ------
    BoardError
        The line is something else, or reports an error there.
    """
    try:
        document = strict_json(line)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise garbage(board, "a line that is no message of ours")
    if "error" in document:
        raise BoardError(f"{board}: {last_words(str(document['error']), 300)}")
    return document
