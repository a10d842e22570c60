"""Tables as Markdown, and the block of a page that a command rewrites, between two marks on lines of their own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from deploy.errors import OutputError
from deploy.files.atomic import require_writable, write_file
from deploy.files.printable import printable
from deploy.report.table import Table

__all__ = ["markdown", "require_block", "write_block"]


def markdown(table: Table) -> str:
    """Write a table as Markdown, with its notes below."""
    lines = [
        _line(table.columns),
        _line([":---" if table.is_left(index) else "---:" for index in range(len(table.columns))]),
        *(_line([cell.replace("|", "\\|") for cell in row]) for row in table.rows),
    ]
    below = [table.caption] if table.caption else []
    below += [f"[{number}] {note}  " for number, note in enumerate(table.notes, 1)]
    return "\n".join(map(printable, lines + (["", *below] if below else []))) + "\n"


def require_block(path: Path, name: str) -> None:
    """Check before the work that `write_block` can write its table.

    Raises
    ------
    OutputError
        The page lacks the marks, or cannot be written.
    """
    require_writable(path)
    if path.exists():
        _around(path, name)


def write_block(path: Path, name: str, text: str) -> None:
    """Put `text` between the marks ``<!-- NAME: begin -->`` and ``<!-- NAME: end -->`` of a page; create it if missing.

    Raises
    ------
    OutputError
        The page lacks the marks, or cannot be written.
    """
    before, after = _around(path, name) if path.exists() else ("", "\n")
    begin, end = _marks(name)
    write_file(path, f"{before}{begin}\n\n{text.strip()}\n\n{end}{after}")


def _marks(name: str) -> tuple[str, str]:
    return f"<!-- {name}: begin -->", f"<!-- {name}: end -->"


def _around(path: Path, name: str) -> tuple[str, str]:
    begin, end = _marks(name)
    # Only on lines of their own: the text may mention the marks.
    parts = re.split(
        rf"^(?:{re.escape(begin)}|{re.escape(end)})$", path.read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    if len(parts) != 3:
        raise OutputError(
            f"{path} has no place for the table: write {begin} and {end} into it, each once on a line of its own, or "
            "name a new file"
        )
    return parts[0], parts[2]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
