"""``deploy boards list``: list the boards that commands were run on."""

from __future__ import annotations

from deploy.cli import options as given
from deploy.cli.output import json_array, print_json, print_line, print_tables
from deploy.edge.boards.known import known_boards
from deploy.report.formatting import size
from deploy.report.table import Table, left

__all__ = ["list_boards"]


def list_boards(json: given.Json = False) -> None:
    """List the boards that commands were run on with --on, and the folder created on each."""
    boards = known_boards()
    if json:
        print_json(json_array(boards))
        return
    if boards:
        rows = tuple(
            (one.address, one.folder, one.python, size(one.sent_bytes), one.used_utc[:16].replace("T", " "))
            for one in boards
        )
        headings = (*left("board", "folder there"), "Python", "models sent", "last used (UTC)")
        print_tables(Table("Boards", headings, rows))
    print_line(f"{len(boards)} boards; deploy boards clean BOARD removes what was put there")
