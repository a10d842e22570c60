"""Open a history file for reading or for one write transaction; SQLite errors become one line."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

from backends.reading.files import require_regular
from deploy.ci.history.schema import APPLICATION_ID, VERSION, migrate, version_of
from deploy.errors import HistoryError

__all__ = ["history_errors", "reading", "writing"]

_PATIENCE_S = 60.0
"""Long enough for another writer: a report takes milliseconds."""
_LONGEST = 200
"""Maximum number of characters kept of a message of SQLite."""
_MAGIC = b"SQLite format 3\0"
_REASONS = {
    sqlite3.SQLITE_FULL: "the disk is full; free some space",
    sqlite3.SQLITE_READONLY: "the file or its folder is read-only; choose another place",
    sqlite3.SQLITE_CANTOPEN: "SQLite cannot open it, or make a file beside it; choose another place",
    sqlite3.SQLITE_PERM: "this is not allowed; choose another place",
    sqlite3.SQLITE_IOERR: "the disk reports an error, or is full",
    sqlite3.SQLITE_BUSY: "another process keeps it locked; try again when that has ended",
    sqlite3.SQLITE_LOCKED: "another process keeps it locked; try again when that has ended",
    sqlite3.SQLITE_TOOBIG: "a report is larger than SQLite allows",
}
"""By primary result code; any other code means damage."""


@contextmanager
def history_errors(path: Path) -> Iterator[None]:
    """Turn errors of a history file into one line.

    Raises
    ------
    HistoryError
        SQLite refuses, or the content of the file is invalid.
    """
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if reason := _REASONS.get(code):
            raise HistoryError(f"history {path}: {reason}") from error
        raise _damaged(path, error) from error
    except ValueError as error:
        raise _damaged(path, error) from error


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """Open an existing history for reading; concurrent writes are neither blocked nor seen.

    Raises
    ------
    HistoryError
        The file is missing, not a history, damaged, or of another version.
    """
    _require_file(path, missing=False)
    with history_errors(path), closing(_for_reading(path)) as connection:
        connection.execute("BEGIN")
        if _is_empty(connection):
            raise HistoryError(f"history {path} is empty: nothing was written to it yet")
        _require_known(connection, path)
        if (version := version_of(connection)) < VERSION:
            raise HistoryError(
                f"history {path} is of version {version}, older than this program's {VERSION}: "
                "deploy history import brings it to the present version"
            )
        yield connection


@contextmanager
def writing(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a history, creating it if missing, for one atomic transaction.

    Waits for other writers.

    Raises
    ------
    HistoryError
        The file cannot be written, is not a history, damaged, or of a newer version.
    """
    _require_file(path, missing=True)
    with history_errors(path), closing(_opened(path, "rwc")) as connection:
        _require_known(connection, path)  # before anything is changed
        _write_ahead(connection)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("BEGIN IMMEDIATE")
        try:
            _require_known(connection, path)
            migrate(connection)
            yield connection
        except BaseException:
            if connection.in_transaction:  # SQLite itself ends it if the disk is full
                connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")


def _damaged(path: Path, error: Exception) -> HistoryError:
    said = " ".join(str(error).split())[:_LONGEST]
    return HistoryError(f"history {path} is damaged ({said}): restore a copy, or start a new one")


def _require_file(path: Path, *, missing: bool) -> None:
    """Check the file first: SQLite gives the same message for any other file as for a torn page."""
    try:
        require_regular(path)
        with path.open("rb") as file:
            head = file.read(len(_MAGIC))
    except FileNotFoundError as error:
        if not missing:
            raise HistoryError(
                f"history {path}: no such file; deploy check --history or deploy history import makes it, "
                "and --history names another place"
            ) from error
        if not path.parent.is_dir():
            raise HistoryError(f"history {path}: there is no folder {path.parent}; make it first") from error
        return
    except OSError as error:
        raise HistoryError(f"history {path}: {(error.strerror or str(error)).lower()}; choose another place") from error
    if head not in (b"", _MAGIC):  # an empty file is a new one, or from mktemp
        raise HistoryError(f"history {path} is not an SQLite file; choose another place")


def _is_empty(connection: sqlite3.Connection) -> bool:
    (number,) = connection.execute("PRAGMA application_id").fetchone()
    (n_tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    return not (number or n_tables or version_of(connection))


def _require_known(connection: sqlite3.Connection, path: Path) -> None:
    if _is_empty(connection):
        return
    (number,) = connection.execute("PRAGMA application_id").fetchone()
    if number != APPLICATION_ID:
        raise HistoryError(f"history {path} is an SQLite file of another program; choose another place")
    if (version := version_of(connection)) > VERSION:
        raise HistoryError(
            f"history {path} is of version {version}; this program knows {VERSION}: use a newer prune-deploy"
        )


def _opened(path: Path, mode: str) -> sqlite3.Connection:
    address = f"file:{quote(os.path.abspath(path))}?mode={mode}"  # noqa: PTH100 - links are followed by SQLite itself
    connection = sqlite3.connect(address, uri=True, timeout=_PATIENCE_S, isolation_level=None)
    connection.row_factory = sqlite3.Row
    try:
        # The file may be untrusted: nothing in it is executed, and torn pages are detected.
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cell_size_check = ON")
    except BaseException:
        connection.close()
        raise
    return connection


def _for_reading(path: Path) -> sqlite3.Connection:
    """Open for reading, even if SQLite cannot write its own files to the folder."""
    connection = _opened(path, "ro")
    try:
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    except sqlite3.Error as error:
        connection.close()
        if not isinstance(error, sqlite3.OperationalError) or path.with_name(f"{path.name}-wal").exists():
            raise
        return _opened(path, "ro&immutable=1")  # there is no log, so nobody is writing
    return connection


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Set WAL mode, so readers and a writer do not block each other; retry, as SQLite does not wait for this lock."""
    until = time.monotonic() + _PATIENCE_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(0.01)
        else:
            return
