"""Known boards: a small per-user file of the boards that hold our files, for ``deploy boards``.

Concurrent commands change it one after the other: a lock beside it is held from reading to writing.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from benchmarks.machine.state import state_folder
from benchmarks.records.base import Record
from deploy.errors import BoardError
from deploy.files.atomic import output_errors, write_file
from deploy.files.validation_errors import one_line
from deploy.results.document import read_document, require_version

__all__ = ["KnownBoard", "forget", "known_boards", "remember"]


class KnownBoard(Record):
    """A board with a folder of ours."""

    address: str = Field(description="as passed to --on")
    folder: str = Field(description="path on the board, as reported by the board")
    python: str = Field(description="version of its Python")
    code: str = Field("", description="hash of the code last copied there")
    sent_bytes: int = Field(0, description="models and inputs, in total")
    used_utc: str


class _Boards(Record):
    schema_version: Literal[1] = 1
    boards: tuple[KnownBoard, ...] = ()


def known_boards() -> tuple[KnownBoard, ...]:
    """Return all boards, in order of first use.

    Raises
    ------
    ResultsError, BoardError
        The file is damaged.
    """
    return _read().boards


def remember(address: str, *, folder: str, python: str, code: str, sent_bytes: int) -> None:
    """Record that a board was used now.

    Raises
    ------
    ResultsError, BoardError
        The file is damaged.
    OutputError
        The file cannot be written.
    """
    used = datetime.now(UTC).isoformat(timespec="seconds")
    with _alone() as boards:
        sent = sent_bytes + (boards[address].sent_bytes if address in boards else 0)
        boards[address] = KnownBoard(
            address=address, folder=folder, python=python, code=code, sent_bytes=sent, used_utc=used
        )


def forget(address: str) -> bool:
    """Forget a board; return whether it was known. Raises as `remember` does."""
    if not _file().exists():
        return False
    with _alone() as boards:
        return boards.pop(address, None) is not None


def _file() -> Path:
    return state_folder() / "boards.json"


def _read() -> _Boards:
    path = _file()
    if not path.exists():
        return _Boards()
    document = read_document(path, "list of boards", "boards")
    require_version(document, {1}, path)
    try:
        return _Boards.model_validate(document)
    except ValidationError as error:
        raise BoardError(f"{path} is not a list of boards: {one_line(error, _Boards)}; remove it") from error


@contextmanager
def _alone() -> Iterator[dict[str, KnownBoard]]:
    """Yield the boards by address under an exclusive lock, and write them back afterwards."""
    path = _file()
    with output_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_name(f"{path.name}.lock").open("w")
    with lock:
        with output_errors(path):
            fcntl.flock(lock, fcntl.LOCK_EX)
        before = {one.address: one for one in _read().boards}
        boards = dict(before)
        yield boards
        if boards != before:
            write_file(path, _Boards(boards=tuple(boards.values())).model_dump_json(indent=1) + "\n")
