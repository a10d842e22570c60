"""Tables of a history file, and the migration from each version to the next.

Versions of the format
----------------------
1   the first

A change of the tables adds a line here and a step to `STEPS`. A file of an older version is migrated when it is opened
for writing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

__all__ = ["APPLICATION_ID", "STEPS", "VERSION", "migrate", "version_of"]

APPLICATION_ID = 0x50444831
"""In the file header: tells a history from any other SQLite file."""

_VERSION_1 = (
    """CREATE TABLE runs (
        id INTEGER PRIMARY KEY,
        content TEXT NOT NULL UNIQUE,  -- hash of what was measured: a run is kept once
        position TEXT NOT NULL,        -- time of the commit, then of the run: the order of points
        created_utc TEXT NOT NULL,
        source TEXT NOT NULL CHECK (source IN ('check', 'results')),
        title TEXT NOT NULL,
        tool_version TEXT NOT NULL,
        machine TEXT NOT NULL,         -- fingerprint
        environment TEXT NOT NULL,     -- JSON
        sha TEXT,                      -- of the commit, NULL: not known
        committed_utc TEXT,
        branch TEXT,
        dirty INTEGER NOT NULL CHECK (dirty IN (0, 1))
    )""",
    """CREATE TABLE measurements (
        id INTEGER PRIMARY KEY,
        run INTEGER NOT NULL REFERENCES runs,
        place INTEGER NOT NULL,        -- in the order of the run
        record TEXT NOT NULL,          -- JSON: what was measured and how, without samples
        UNIQUE (run, place)
    )""",
    """CREATE TABLE samples (
        measurement INTEGER NOT NULL REFERENCES measurements,
        trial INTEGER NOT NULL,
        n INTEGER NOT NULL,
        calls BLOB NOT NULL,           -- n nanoseconds: int64, little-endian, zlib
        UNIQUE (measurement, trial)
    )""",
    """CREATE TABLE series (
        id INTEGER PRIMARY KEY,
        model TEXT NOT NULL,
        backend TEXT NOT NULL,         -- '': does not depend on one, nor on the columns up to 'more'
        precision TEXT NOT NULL,
        threads INTEGER NOT NULL,
        batch INTEGER NOT NULL,
        more TEXT NOT NULL,            -- what else was not as usual, as JSON, or ''
        machine TEXT NOT NULL,         -- fingerprint, '': does not depend on the machine
        metric TEXT NOT NULL,
        UNIQUE (model, backend, precision, threads, batch, more, machine, metric)
    )""",
    """CREATE TABLE points (
        id INTEGER PRIMARY KEY,
        series INTEGER NOT NULL REFERENCES series,
        run INTEGER NOT NULL REFERENCES runs,
        place INTEGER NOT NULL,        -- in the order of the run
        position TEXT NOT NULL,        -- of the run
        value REAL NOT NULL,
        low REAL,                      -- ends of its confidence interval
        high REAL,
        confidence REAL,
        n INTEGER,                     -- trials or pairs of trials behind the interval
        unfit INTEGER NOT NULL CHECK (unfit IN (0, 1)),
        sha256 TEXT NOT NULL,          -- of the model
        against TEXT,                  -- of the model that it was compared with
        version TEXT,                  -- of the backend
        UNIQUE (run, series)
    )""",
    "CREATE INDEX points_of_series ON points (series, position, value, run)",
    """CREATE TABLE limits (
        run INTEGER NOT NULL REFERENCES runs,
        place INTEGER NOT NULL,
        row TEXT NOT NULL,             -- JSON: the limit, what was observed, the verdict
        UNIQUE (run, place)
    )""",
    """CREATE TABLE judgements (
        series INTEGER NOT NULL REFERENCES series,
        branch TEXT NOT NULL,          -- '': all
        judged TEXT NOT NULL,          -- which points were looked at, and by which rule
        changes TEXT NOT NULL,         -- JSON
        UNIQUE (series, branch)
    )""",
)

STEPS: tuple[tuple[str, ...], ...] = (_VERSION_1,)
"""The statements at index n migrate version n to version n + 1; version 0 is a file without tables."""

VERSION = len(STEPS)


def version_of(connection: sqlite3.Connection) -> int:
    """Return the version of the tables; 0 if there are none."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def migrate(connection: sqlite3.Connection, steps: Sequence[Sequence[str]] = STEPS) -> None:
    """Migrate the tables to the newest version inside the open transaction.

    Parameters
    ----------
    connection : sqlite3.Connection
        Connection to a file of a version that `steps` covers.
    steps : sequence of sequence of str
        For each version, the statements that lead to the next.
    """
    version = version_of(connection)
    if version == len(steps):
        return
    for step in steps[version:]:
        for statement in step:
            connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {len(steps)}")
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
