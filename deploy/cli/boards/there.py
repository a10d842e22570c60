"""``--on``: run a command on another machine, and show here what it wrote there.

The command line for the board is rebuilt from the parsed options: files are sent by content, and options for output
(``--output``, ``--page``, ``--json``) are handled here. The board is not trusted: its result is read like any file,
must be of the models that were sent, and the exit code is that of the result.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any, get_args

from benchmarks.errors import InputError
from deploy.cli.boards.fetched import GivenCommand
from deploy.cli.output import leave, note, say, tell
from deploy.edge.boards import known
from deploy.edge.boards.address import Address
from deploy.edge.boards.board import Board
from deploy.edge.boards.connection import Connection, ConnectionLostError
from deploy.edge.boards.following import Fetched, Job
from deploy.edge.boards.payload import Payload, read_wheels
from deploy.edge.boards.trees import Tree, tree_of
from deploy.errors import BoardError, OutputError
from deploy.exit_codes import DEFECT, OK, USAGE
from deploy.files.atomic import require_writable

__all__ = ["run_there"]

_STAYS = {"help", "output", "page", "markdown", "json", "verbose"}
"""Options that are handled here, with what was measured there."""
_WRITTEN = ("output", "page", "markdown")


def run_there(ctx: Any, shows: str, board: str | None, wheels: str | None) -> None:
    """Run a command on a board, and show what it wrote.

    Parameters
    ----------
    ctx : click.Context
        The parsed command.
    shows : str
        ``module:function`` that shows its result.
    board : str or None
        Address of the board.
    wheels : str or None
        Folder of wheels for the board.

    Raises
    ------
    InputError
        Wheels are given, but no board.
    BoardError
        The board cannot be reached or cannot measure, or its answer is not what was asked for.
    typer.Exit
        With the exit code of the command.
    """
    if board is None:
        raise InputError("--wheels are for a board: give --on too")
    address = Address.read(board)
    given = dict(ctx.params)
    for target in filter(None, map(given.get, _WRITTEN)):
        require_writable(Path(target))
    brought = {} if wheels is None else read_wheels(Path(wheels))
    argv, trees = _words(ctx, given)
    backends = given.get("backend") or ()
    payload = Payload((backends,) if isinstance(backends, str) else tuple(backends))
    with tempfile.TemporaryDirectory(prefix="board-") as scratch:
        tell(f"connect to {address}")
        with Connection(address) as connection:
            there = Board(connection, payload, tell, note)
            _remember(there, payload, 0)
            there.prepare(brought)
            _remember(there, payload, there.send(trees))
            with _followed(there) as started:
                fetched = there.run(argv, trees, started=started, file=Path(scratch) / "result")
            with _handed_over(there, started):
                _show(shows, fetched, GivenCommand(given, address, fetched.code))


def _remember(board: Board, payload: Payload, sent_bytes: int) -> None:
    facts = board.facts
    known.remember(
        str(board.address), folder=facts.folder, python=facts.version, code=payload.name, sent_bytes=sent_bytes
    )


class _Started:
    """Remembers the job that was started on the board."""

    job: Job | None = None

    def __call__(self, job: Job) -> None:
        self.job = job


@contextmanager
def _followed(board: Board) -> Iterator[_Started]:
    """End the job if this command is interrupted or fails; if only the connection is lost, the job continues."""
    started = _Started()
    try:
        yield started
    except ConnectionLostError as error:
        raise ConnectionLostError(f"{error}; the command keeps running there: the same command picks it up") from error
    except BoardError:
        _remove(board, started)
        raise
    except KeyboardInterrupt:
        _remove(board, started)
        raise


@contextmanager
def _handed_over(board: Board, started: _Started) -> Iterator[None]:
    """Remove a result from the board once it is shown; if it could not be written here, keep it there."""
    try:
        yield
    except (OutputError, KeyboardInterrupt):
        raise
    except BaseException:
        _remove(board, started)
        raise
    _remove(board, started)


def _remove(board: Board, started: _Started) -> None:
    if started.job is None:
        return
    try:
        gone = board.end(started.job)
    except BoardError as error:
        say(f"deploy: {error}; the command may still be running there, deploy boards clean {board.address} ends it")
        return
    if not gone:
        say(f"deploy: {board.address}: the command there did not end; deploy boards clean {board.address}")


def _show(shows: str, fetched: Fetched, given: GivenCommand) -> None:
    """Show a result by the command's own function; without a result, show the reason that the board gave."""
    if fetched.code == DEFECT:
        say(f"deploy: {given.address}: {fetched.reason}")
        leave(DEFECT, told=True)
    module, _, name = shows.partition(":")
    show: Callable[[Path, GivenCommand], None] = getattr(import_module(module), name)
    if fetched.file is None or fetched.is_result == given.is_text:
        if fetched.code not in {OK, USAGE}:
            raise BoardError(f"{given.address}: it reports exit code {fetched.code} without a result: not believed")
        say(f"deploy: {given.address}: {fetched.reason or 'the command left no result, and does not say why'}")
        leave(USAGE)
        return
    show(fetched.file, given)


def _words(ctx: Any, given: dict[str, Any]) -> tuple[list[str], list[Tree]]:
    """Return the command line for the board, and the files that it names."""
    options: list[str] = []
    arguments: list[str] = []
    trees: list[Tree] = []

    kinds = signature(ctx.command.callback, eval_str=True).parameters

    def said(option: Any, value: Any) -> str:
        if not _holds_paths(kinds[option.name].annotation):
            return str(value)
        tree = tree_of(Path(value))
        trees.append(tree)
        return f"@FILES@/{tree.name}/{tree.argument}"

    for option in ctx.command.params:
        value = given.get(option.name)
        if option.name in _STAYS or value is None or value == option.default:
            continue
        values = value if isinstance(value, list | tuple) else [value]
        if option.param_type_name == "argument":
            arguments += [said(option, one) for one in values]
        elif isinstance(value, bool):
            options.append(max(option.opts, key=len))
        else:
            options += [f"{max(option.opts, key=len)}={said(option, one)}" for one in values]
    if "output" in given:
        options.append("--output=@RESULT@")
    return [*ctx.command_path.split()[1:], *options, "--", *arguments], trees


def _holds_paths(kind: Any) -> bool:
    return kind is Path or any(map(_holds_paths, get_args(kind)))
