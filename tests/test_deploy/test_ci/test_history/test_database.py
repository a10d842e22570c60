"""What is no history, or cannot be read or written, is refused in one line; older versions are brought up."""

from __future__ import annotations

import os
import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from deploy.ci.history import database
from deploy.ci.history.database import reading, writing
from deploy.ci.history.derive import run_of_report
from deploy.ci.history.schema import APPLICATION_ID, STEPS, VERSION, migrate, version_of
from deploy.ci.history.store import add_report, add_runs, read_runs
from deploy.errors import HistoryError


@pytest.fixture(scope="module")
def written(tmp_path_factory, report_of):
    path = tmp_path_factory.mktemp("history") / "history.sqlite"
    add_runs(path, [run_of_report(report_of(number)) for number in range(8)])
    return path.read_bytes()


@pytest.fixture
def history(tmp_path, written):
    path = tmp_path / "history.sqlite"
    path.write_bytes(written)
    return path


def foreign(path):
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE people (name)")
        connection.commit()


def newer(path):
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {VERSION + 1}")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("CREATE TABLE runs (id)")
        connection.commit()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (foreign, "is an SQLite file of another program"),
        (newer, f"is of version {VERSION + 1}; this program knows {VERSION}: use a newer prune-deploy"),
        (Path.mkdir, "it is a folder"),
        (lambda path: path.write_text("time,value\n1,2\n"), "is not an SQLite file"),
        (lambda path: path.write_bytes(b"SQLite format 3\0" + 500 * b"x"), "is damaged"),
        (os.mkfifo, "it is a pipe"),
        (lambda path: path.symlink_to(path), "too many levels of symbolic links"),
    ],
)
def test_what_is_no_history_is_refused_and_left_as_it_was(tmp_path, report_of, make, words):
    path = tmp_path / "h.sqlite"
    make(path)
    before = path.read_bytes() if path.is_file() else None
    for work in (lambda: add_report(path, report_of()), lambda: list(read_runs(path))):
        with pytest.raises(HistoryError, match=words):
            work()
    assert before is None or path.read_bytes() == before
    assert {entry.name for entry in tmp_path.iterdir()} == {"h.sqlite"}


def test_a_history_that_is_missing_or_empty_is_made_and_not_read(tmp_path, report_of):
    missing, empty = tmp_path / "missing.sqlite", tmp_path / "empty.sqlite"
    empty.touch()
    with pytest.raises(HistoryError, match="no such file"):
        list(read_runs(missing))
    with pytest.raises(HistoryError, match="is empty"):
        list(read_runs(empty))
    for path in (missing, empty):
        add_report(path, report_of())
        assert len(list(read_runs(path))) == 1
    with pytest.raises(HistoryError, match=r"there is no folder .*nowhere; make it first"):
        add_report(tmp_path / "nowhere" / "h.sqlite", report_of())
    with pytest.raises(HistoryError, match="choose another place"):
        add_report(Path("/proc/h.sqlite"), report_of())


def test_a_full_disk_is_one_line_and_nothing_is_added(history, report_of, monkeypatch):
    before = list(read_runs(history))
    opened = database._opened

    def small(path, mode):
        connection = opened(path, mode)
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")
        return connection

    monkeypatch.setattr(database, "_opened", small)
    with pytest.raises(HistoryError, match="the disk is full; free some space"):
        for number in range(100, 130):
            add_report(history, report_of(number))
    monkeypatch.undo()
    kept = list(read_runs(history))
    assert kept[: len(before)] == before
    assert all(run.points for run in kept)


def test_a_history_that_may_only_be_read_is_read(history, report_of, monkeypatch):
    opened = database._opened
    monkeypatch.setattr(database, "_opened", lambda path, mode: opened(path, mode.replace("rwc", "ro")))
    assert len(list(read_runs(history))) == 8
    with pytest.raises(HistoryError, match="read-only"):
        add_report(history, report_of(20))


def test_another_writer_is_waited_for_and_then_named(history, report_of, monkeypatch):
    monkeypatch.setattr(database, "_PATIENCE_S", 0.1)
    with writing(history), pytest.raises(HistoryError, match="another process keeps it locked"):
        add_report(history, report_of(20))
    assert add_report(history, report_of(20))


def test_who_reads_is_not_disturbed_by_who_writes(history, report_of):
    with reading(history) as connection:
        count = "SELECT count(*) FROM runs"
        assert connection.execute(count).fetchone()[0] == 8
        add_report(history, report_of(20))
        assert connection.execute(count).fetchone()[0] == 8
    assert len(list(read_runs(history))) == 9


@pytest.mark.parametrize("n_seeds", [10, pytest.param(300, marks=pytest.mark.slow)])
def test_a_damaged_history_is_read_as_it_was_or_refused(history, written, report_of, n_seeds):
    """Bytes are overwritten or cut off; nothing but the line of a mistake comes out."""
    refused = 0
    for seed in range(n_seeds):
        draw = random.Random(seed)
        whole = bytearray(written)
        for _ in range(draw.choice([1, 3, 30])):
            at = draw.randrange(16, len(whole))
            whole[at : at + 4] = draw.randbytes(4)
        if draw.random() < 0.3:
            del whole[draw.randrange(len(whole)) :]
        history.write_bytes(whole)
        for work in (lambda: list(read_runs(history)), lambda: add_report(history, report_of(30))):
            try:
                work()
            except HistoryError as error:
                assert "\n" not in str(error)
                refused += 1
        for beside in ("-wal", "-shm"):
            history.with_name(f"{history.name}{beside}").unlink(missing_ok=True)
    assert refused, "the damage was done"


NEXT = (*STEPS, ("ALTER TABLE runs ADD COLUMN note TEXT NOT NULL DEFAULT ''", "CREATE INDEX notes ON runs (note)"))
"""A version that may come."""


@pytest.mark.parametrize("version", range(len(NEXT)))
def test_every_older_version_is_brought_to_the_newest(tmp_path, report_of, version):
    path = tmp_path / "old.sqlite"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in (one for step in NEXT[:version] for one in step):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {version}")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID if version else 0}")
    if version == VERSION:
        add_report(path, report_of())
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        before = list(connection.execute("SELECT content FROM runs")) if version else []
        connection.execute("BEGIN IMMEDIATE")
        migrate(connection, NEXT)
        connection.execute("COMMIT")
        assert version_of(connection) == len(NEXT)
        assert list(connection.execute("SELECT content FROM runs WHERE note = ''")) == before
        made = {row[0]: row[1] for row in connection.execute("SELECT name, sql FROM sqlite_schema WHERE sql NOT NULL")}
    with closing(sqlite3.connect(tmp_path / "new.sqlite", isolation_level=None)) as connection:
        migrate(connection, NEXT)
        new = {row[0]: row[1] for row in connection.execute("SELECT name, sql FROM sqlite_schema WHERE sql NOT NULL")}
    assert made == new


def test_a_step_that_fails_leaves_the_older_version(history):
    with pytest.raises(HistoryError, match="damaged"), writing(history) as connection:
        migrate(connection, (*STEPS, ("CREATE TABLE notes (a)", "CREATE TABLE runs (a)")))
    with reading(history) as connection:
        assert version_of(connection) == VERSION
        assert not list(connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'notes'"))


def test_an_older_history_is_not_read_as_it_is(history, monkeypatch):
    monkeypatch.setattr(database, "VERSION", VERSION + 1)
    with pytest.raises(HistoryError, match=f"version {VERSION}, older than this program's {VERSION + 1}"):
        list(read_runs(history))
