"""Follow a command that runs on a board: its messages, its exit, and its output."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.edge.boards.answers import Answers, garbage, is_size, message
from deploy.edge.boards.connection import ConnectionLostError, Ended
from deploy.errors import BoardError
from deploy.files.printable import printable

__all__ = ["Fetched", "Following", "Job"]

Say = Callable[[str], None]

_SHOWN = 300
_SO_FAR = re.compile(r": [^:]* so far$")
"""Elapsed time of a step on the board, dropped because this side reports its own."""
_NAME = re.compile(r"[0-9a-f]{8,64}-\d{1,4}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Job:
    """A command running on the board, or finished there.

    Parameters
    ----------
    name : str
        Name on the board.
    is_new : bool
        False if it was found there, since an earlier connection was lost.
    """

    name: str
    is_new: bool


@dataclass(frozen=True, slots=True)
class Fetched:
    """Output of a command on the board.

    Parameters
    ----------
    code : int
        Exit code, as reported by the board.
    file : Path or None
        Its output, of which only the hash is checked; None if there is none.
    is_result : bool
        Whether the file is the result; otherwise it is the standard output.
    reason : str
        Last line of its standard error, printable.
    """

    code: int
    file: Path | None
    is_result: bool
    reason: str


class Following:
    """Receives the messages of a job and its output.

    Parameters
    ----------
    board : str
        Name of the board, for messages.
    file : Path
        Receives the output of the job.
    started : callable
        Receives the job as soon as it exists.
    say, note : callable
        Receive one short line: for each step, and for remarks that matter afterwards.
    """

    def __init__(self, board: str, file: Path, started: Callable[[Job], None], say: Say, note: Say) -> None:
        self._board = board
        self._file = file
        self._started = started
        self._say = say
        self._note = note
        self._answers: Answers | None = None
        self._last = ""
        self._done: dict[str, Any] | None = None

    def take(self, answers: Answers) -> None:
        """Receive the parser of the answers."""
        self._answers = answers

    def hear(self, line: str) -> bool:
        """Handle one line; return True if nothing follows it.

        Raises
        ------
        BoardError
            The line is not a message of ours, or reports an error.
        """
        said = message(self._board, line)
        if "job" in said:
            self._begin(said)
        elif isinstance(said.get("line"), str):
            if words := printable(said["line"].strip())[:_SHOWN]:
                self._last = _SO_FAR.sub("", words.removeprefix("deploy: "))
                self._say(f"on the board: {self._last}")
        elif isinstance(said.get("done"), dict):
            assert self._answers is not None
            self._done = said
            self._answers.receive(said.get("size"), self._file)
            return bool(said["size"] == 0)
        elif said:
            raise garbage(self._board)
        return False

    def fetched(self, ended: Ended) -> Fetched:
        """Return the output of the job.

        Raises
        ------
        ConnectionLostError
            The connection broke, or the file is incomplete: it can be fetched again.
        BoardError
            The job was killed, or the answer is garbage.
        """
        if self._done is None:
            if ended.code == 0:
                raise ConnectionLostError(f"{self._board}: it gave up")
            raise garbage(self._board, ended.words)
        done = self._done["done"]
        code, free = done.get("code"), done.get("free")
        if code is None:
            room = f"{free >> 20} MB of its disk are free" if is_size(free) else "it does not say"
            last = f"; its last words: {self._last}" if self._last else ""
            raise BoardError(
                f"{self._board}: the command ended there without a result: it was killed, or memory or disk ran out "
                f"({room}){last}"
            )
        if not isinstance(code, int) or isinstance(code, bool):
            raise garbage(self._board)
        if not ended.received or ended.sha256 != self._done.get("sha256"):
            raise ConnectionLostError(f"{self._board}: the result is incomplete")
        return Fetched(
            code,
            self._file if self._done["size"] else None,
            done.get("is_result") is True,
            self._last,
        )

    def _begin(self, said: dict[str, Any]) -> None:
        name, state, age = said["job"], said.get("state"), said.get("age_s")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise garbage(self._board)
        self._started(Job(name, state == "new"))
        if state == "done" and isinstance(age, int):
            self._note(f"picked up the result of {age // 60} min ago, which nobody has fetched")
        elif state != "new":
            self._note("picked up: the command is already running there")
