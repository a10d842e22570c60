"""Run our shell scripts on a board: to probe it, and to install and remove the package."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from importlib.resources import files

from deploy.edge.boards.connection import Connection, Ended
from deploy.edge.boards.payload import Payload
from deploy.edge.boards.probe import Facts
from deploy.errors import BoardError
from deploy.files.printable import printable

__all__ = ["LONG_S", "clean", "look", "run_script"]

LONG_S = 900.0
"""Longest silence of a script that installs or removes."""
_ASK_WHERE = {"probe.sh", "clean.sh"}
"""Scripts that receive the folder as written in the address."""
_SHOWN = 300
_KEPT_LINES = 200


def look(connection: Connection, payload: Payload) -> Facts:
    """Probe a board; nothing is sent there.

    Raises
    ------
    BoardError
        The board cannot measure; the message says why, and what to do.
    """
    address = connection.address
    words = (address.folder, payload.name, payload.environment)
    ended, lines = run_script(connection, "probe.sh", words)
    if ended.code:
        raise BoardError(f"{address}: it cannot be looked at: {ended.words or f'exit code {ended.code}'}")
    return Facts.read(str(address), lines)


def clean(connection: Connection) -> str:
    """End what runs on a board and remove our folder; return its name, empty if there was none.

    Raises
    ------
    BoardError
        The folder is not ours, or cannot be removed.
    """
    ended, lines = run_script(connection, "clean.sh", (connection.address.folder,), silence_s=LONG_S)
    said = dict(line.split("=", 1) for line in lines if "=" in line)
    folder = printable(said.get("folder", ""))[:_SHOWN]
    if ended.code or said.get("found") not in {"nothing", "ours"}:
        why = "it is not ours" if said.get("found") == "other" else ended.words or f"exit code {ended.code}"
        raise BoardError(f"{connection.address}: {folder} was not removed: {why}")
    return folder if said["found"] == "ours" else ""


def run_script(
    connection: Connection,
    name: str,
    words: Sequence[str],
    feed: Iterable[bytes] = (),
    *,
    tell: Callable[[str], None] | None = None,
    silence_s: float = 60.0,
    beat: bytes = b"",
) -> tuple[Ended, list[str]]:
    """Run one of our scripts; return how it ended, and its last lines.

    Parameters
    ----------
    connection : Connection
        Connection to the board.
    name : str
        File in ``scripts``.
    words : sequence of str
        Its arguments.
    feed, silence_s, beat
        See `Connection.run`.
    tell : callable, optional
        Receives each line, printable.
    """
    lines: list[str] = []

    def hear(line: str) -> bool:
        lines.append(line)
        del lines[:-_KEPT_LINES]
        if tell is not None and (shown := printable(line.strip())[:_SHOWN]):
            tell(shown)
        return False

    text = "\n".join(map(_read, ("where.sh", name) if name in _ASK_WHERE else (name,)))
    ended = connection.run(["sh", "-c", text, "sh", *words], hear, feed=feed, silence_s=silence_s, beat=beat)
    return ended, lines


def _read(name: str) -> str:
    return files("deploy.edge.boards").joinpath("scripts", name).read_text(encoding="utf-8")
