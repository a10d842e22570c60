"""What a board answers, taken apart within bounds: nothing of it is believed before it was checked.

First comes a word that only this call knows: what a login shell prints before is stepped over. Then lines of text, and
after a line that says so the bytes of one file.
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
"""Of a result; a bench of an hour is some megabytes."""
_MOST_BEFORE = 1 << 16
_MOST_OF_A_LINE = 1 << 16
_MOST_LINES, _MOST_OF_LINES = 100_000, 16 << 20


class Answers:
    """Takes apart what one call to a board answers.

    Parameters
    ----------
    board : str
        Its name, for messages.
    token : str
        The word that the answer begins with.
    hear : callable
        Receives each line; True where it was the last one.
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
        """Whether the other side is ours."""
        return self._begun

    def take(self, block: bytes) -> bool:
        """Take what came; True where that was all.

        Raises
        ------
        BoardError
            It is too much, or not text.
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
        """Let the bytes that follow this line be a file.

        Raises
        ------
        BoardError
            It is larger than `MOST_BYTES`.
        """
        if not is_size(size) or size > MOST_BYTES:
            raise garbage(self._board, f"a result of {str(size)[:40]} bytes")
        self._left = size
        self._file = path.open("wb")

    def _receives(self) -> bool:
        return self._file is not None

    @property
    def before(self) -> str:
        """What came before the answer, as text."""
        return "" if self._begun else self._buffer.decode(errors="replace")

    @property
    def sha256(self) -> str:
        """Hash of the file that came."""
        return self._digest.hexdigest()

    def close(self) -> bool:
        """Close what was open; whether a file that was promised came whole."""
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
    """Return whether something is a number of bytes that a disk can hold."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 60


def garbage(board: str, why: str = "") -> BoardError:
    """Return the error of a board that says what ours never says."""
    return BoardError(f"{board} answers with garbage{f' ({why})' if why else ''}: none of it was used")


def message(board: str, line: str) -> dict[str, Any]:
    """Read one line as the JSON object that our half on the board writes.

    Raises
    ------
    BoardError
        It is something else, or says what went wrong there.
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
