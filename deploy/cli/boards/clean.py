"""``deploy boards clean``: remove from a board what ``--on`` put there."""

from __future__ import annotations

from typing import Annotated

import typer

from benchmarks.errors import InputError
from deploy.cli.output import leave, print_line, say, tell
from deploy.edge.boards import known
from deploy.edge.boards.address import Address
from deploy.edge.boards.connection import Connection
from deploy.edge.boards.scripting import clean as clean_board
from deploy.errors import BoardError
from deploy.exit_codes import USAGE

__all__ = ["clean"]


def clean(
    boards: Annotated[
        list[str] | None, typer.Argument(metavar="[BOARD]...", help="Board as given to --on: ssh://USER@HOST.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All boards that deploy boards list shows.")] = False,
    forget: Annotated[
        bool, typer.Option("--forget", help="Only forget the board, for one that no longer exists.")
    ] = False,
) -> None:
    """Stop what is running on a board, and remove the folder created there.

    Each board is cleaned, even if another one fails; the exit code is 2 if any was not cleaned.
    """
    addresses = [str(Address.read(board)) for board in boards or ()]
    if everything:
        addresses += [one.address for one in known.known_boards()]
    elif not addresses:
        raise InputError("which board? deploy boards list shows them; --all: every one")
    failed = False
    for address in dict.fromkeys(addresses):
        if forget:
            print_line(f"{address}: {'forgotten' if known.forget(address) else 'not known'}")
            continue
        try:
            _clean(address)
        except BoardError as error:
            failed = True
            say(f"deploy: {error}")
    if failed:
        leave(USAGE)


def _clean(address: str) -> None:
    tell(f"connect to {address}")
    with Connection(Address.read(address)) as connection:
        folder = clean_board(connection)
    known.forget(address)
    print_line(f"{address}: {f'{folder} was removed' if folder else 'there was nothing to remove'}")
