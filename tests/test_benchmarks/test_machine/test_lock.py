"""Two measurements never overlap; a second one says for whom it waits; nothing keeps the lock but its live holder."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from benchmarks.errors import BenchmarkError, MachineBusyError
from benchmarks.machine import lock
from benchmarks.machine.lock import LOCK_VARIABLE, lock_path, machine_lock

pytest.importorskip("fcntl")
ROOT = Path(__file__).parents[3]

HOLDER = """
import os, subprocess, sys, time
from pathlib import Path
from benchmarks.machine.lock import machine_lock
path, log, mode = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
with machine_lock("deploy bench held.onnx", path):
    child = None
    if mode == "spawn":
        child = subprocess.Popen([sys.executable, "-c", "input()"], close_fds=False, stdin=subprocess.PIPE)
    if mode == "fork":
        child = os.fork()
        if child == 0:
            print(os.getpid(), flush=True)
            time.sleep(60)
            os._exit(0)
    else:
        print(child and child.pid, flush=True)
    sys.stdin.readline()
    if mode == "raise":
        raise RuntimeError("a crash")
    if mode == "log":
        log.open("a").write("first ends\\n")
"""


@contextlib.contextmanager
def holder(path, mode="plain"):
    """Start a process that holds the lock until a line comes; gives it and what it printed."""
    command = [sys.executable, "-c", HOLDER, str(path), str(path.with_suffix(".log")), mode]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def end(process):
    process.stdin.write("\n")
    process.stdin.flush()


def is_free(path):
    try:
        with machine_lock("test", path, wait_s=0):
            return True
    except MachineBusyError:
        return False


@pytest.fixture
def path(tmp_path):
    return tmp_path / "lock"


def test_a_second_process_waits_says_once_for_whom_and_goes_on(path):
    log, said = path.with_suffix(".log"), []

    def say(line):
        said.append(line)
        end(process)  # only now does the holder go on to its end

    with holder(path, "log") as (process, _), machine_lock("second", path, say=say):
        assert log.read_text() == "first ends\n", "both measured at the same time"
    (line,) = said
    assert line.startswith(f"waiting for pid {process.pid} (deploy bench held.onnx) of ")
    assert ", since " in line
    assert len(line.rsplit("since ", 1)[1]) == len("12:03")


def test_waiting_ends_in_time_with_one_line(path):
    with holder(path) as (process, _):
        start = time.monotonic()
        with (
            pytest.raises(MachineBusyError, match=f"in use by pid {process.pid} ") as caught,
            machine_lock("b", path, 0.3),
        ):
            pytest.fail("the lock was given twice")
        assert time.monotonic() - start >= 0.3
        assert "\n" not in str(caught.value)
        end(process)
        process.wait()
    assert is_free(path)


def test_a_wait_with_a_limit_goes_on_when_the_lock_is_free(path):
    with holder(path) as (process, _), machine_lock("b", path, wait_s=60, say=lambda _: end(process)):
        assert process.wait() == 0


@pytest.mark.parametrize("how", ["kill", "raise"])
def test_a_holder_that_dies_leaves_nothing_behind(path, how):
    with holder(path, how) as (process, _):
        assert not is_free(path)
        if how == "kill":
            process.send_signal(signal.SIGKILL)
        else:
            end(process)
        assert process.wait() != 0
        assert path.exists()
        assert is_free(path), "a file that was left over was taken for a lock"


@pytest.mark.parametrize("mode", ["spawn", "fork"])
def test_a_surviving_child_does_not_keep_the_lock(path, mode):
    with holder(path, mode) as (process, child):
        process.kill()
        process.wait()
        try:
            os.kill(int(child), 0)  # it is alive
            assert is_free(path)
        finally:
            os.kill(int(child), signal.SIGKILL)


def test_a_forked_child_that_leaves_the_block_does_not_release_its_parent(path):
    with machine_lock("parent", path):
        child = os.fork()
        if child == 0:
            with contextlib.suppress(BaseException), machine_lock("child", path, wait_s=0):
                os._exit(1)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, "the child got its parent's lock"
        code = f"""
import sys
from pathlib import Path
from benchmarks.machine.lock import machine_lock
with machine_lock("other", Path({str(path)!r}), wait_s=0): pass
"""
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
        assert "MachineBusyError" in done.stderr


def test_a_process_that_holds_it_may_not_ask_again(path):
    with machine_lock("outer", path):
        with pytest.raises(MachineBusyError, match="measuring already"), machine_lock("inner", path):
            pytest.fail("two measurements of one process overlap")
        assert path.read_text(), "asking again has released the lock"
    assert is_free(path)


def test_the_lock_is_free_after_an_error_inside(path):
    with pytest.raises(ZeroDivisionError), machine_lock("a", path):
        1 / 0  # noqa: B018
    assert is_free(path)
    assert path.read_text() == ""


def test_every_user_may_use_the_file_whatever_the_umask(path):
    old = os.umask(0o077)
    try:
        with machine_lock("a", path):
            assert stat.S_IMODE(path.stat().st_mode) == 0o666
    finally:
        os.umask(old)


@pytest.mark.parametrize("replaced", [False, True])
def test_a_file_removed_while_waiting_is_no_lock(path, replaced):
    # Who waits on a removed file would hold a lock that nobody else can see.
    with holder(path) as (process, _):

        def remove(_):
            path.rename(path.with_suffix(".old"))  # its inode stays in use, so a new file has another one
            if replaced:
                path.touch()
            end(process)

        with machine_lock("second", path, say=remove):
            assert path.exists()
            code = HOLDER.replace('held.onnx", path', 'held.onnx", path, wait_s=0')
            third = subprocess.run(
                [sys.executable, "-c", code, str(path), "-", "plain"], cwd=ROOT, capture_output=True, text=True
            )
            assert "MachineBusyError" in third.stderr


@pytest.mark.parametrize("link", ["symlink_to", "hardlink_to"])
def test_an_empty_file_of_another_name_is_not_written_to(tmp_path, path, link):
    other = tmp_path / "other"
    other.touch()
    getattr(path, link)(other)
    with pytest.raises(BenchmarkError, match="cannot be the machine's lock"), machine_lock("a", path):
        pytest.fail("taken as a lock")
    assert other.read_text() == ""


@pytest.mark.parametrize("kind", ["symlink", "hard link", "fifo", "folder", "somebody's text", "dangling link"])
def test_what_is_no_lock_file_is_refused_and_left_alone(tmp_path, path, kind):
    precious = tmp_path / "precious"
    precious.write_text("my thesis")
    match kind:
        case "symlink":
            path.symlink_to(precious)
        case "dangling link":
            path.symlink_to(tmp_path / "new")
        case "hard link":
            path.hardlink_to(precious)
        case "fifo":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case _:
            path.write_text("my thesis")
    with pytest.raises(BenchmarkError, match="cannot be the machine's lock") as caught, machine_lock("a", path):
        pytest.fail("taken as a lock")
    assert "\n" not in str(caught.value)
    assert precious.read_text() == "my thesis"
    assert not (tmp_path / "new").exists()
    if kind == "somebody's text":
        assert path.read_text() == "my thesis"


def test_a_folder_that_is_not_there_is_said(tmp_path):
    with (
        pytest.raises(BenchmarkError, match="cannot be created: No such file"),
        machine_lock("a", tmp_path / "no/lock"),
    ):
        pytest.fail("taken as a lock")


@pytest.mark.parametrize(
    "left",
    ["", "garbage", '{"pid": "x"}', "[]", '{"pid": 1, "command": "\\u001b[2Jevil\\n", "user": "u", "since": "?"}'],
)
def test_a_broken_note_does_not_hinder(path, left):
    path.write_text(f"prune-deploy machine lock\n{left}")
    assert is_free(path)


def test_what_a_holder_wrote_cannot_steer_the_terminal(path):
    said = []

    def say(line):
        said.append(line)
        end(process)

    with holder(path) as (process, _):
        note = path.read_text().replace("held.onnx", "\\u001b[2J\\u001b]0;evil\\u0007\\n\\u202e" + "x" * 1000)
        path.write_text(note)
        with machine_lock("second", path, say=say):
            pass
    assert said[0].isprintable()
    assert len(said[0]) < 500


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="this system does not say who holds a lock")
def test_a_note_accuses_nobody_else(path):
    said = []

    def say(line):
        said.append(line)
        end(process)

    with holder(path) as (process, _):
        path.write_text(path.read_text().replace(f'"pid": {process.pid}', '"pid": 1'))
        with machine_lock("second", path, say=say):
            pass
    assert said[0].startswith(f"waiting for pid {process.pid} of ")
    assert "held.onnx" not in said[0]


def test_waiting_for_others_ends_and_for_ourselves_does_not(path, monkeypatch):
    monkeypatch.setattr(lock, "FOREIGN_WAIT_S", 0.2)
    with holder(path) as (process, _):
        monkeypatch.setattr(lock, "_locker", lambda _: None)  # nobody knows whose it is
        with (
            pytest.raises(
                MachineBusyError, match=f"waited 0 minutes for .*by its own account; .* {LOCK_VARIABLE}"
            ) as caught,
            machine_lock("b", path),
        ):
            pytest.fail("the lock was given twice")
        assert "\n" not in str(caught.value)
        monkeypatch.setattr(lock, "_locker", lambda _: process.pid)
        threading.Timer(0.6, end, [process]).start()
        with machine_lock("b", path):
            assert process.wait() == 0


def test_the_place_is_the_same_for_all_and_can_be_named(monkeypatch, tmp_path):
    monkeypatch.setenv(LOCK_VARIABLE, str(tmp_path / "named"))
    with machine_lock("a"):
        assert (tmp_path / "named").read_text()
    monkeypatch.setenv(LOCK_VARIABLE, "")
    assert lock_path().parent == Path(tempfile.gettempdir())
    monkeypatch.delenv(LOCK_VARIABLE)
    assert lock_path() == lock_path()


def test_many_processes_take_turns(path):
    code = """
import sys
from pathlib import Path
from benchmarks.machine.lock import machine_lock
path, count = Path(sys.argv[1]), Path(sys.argv[2])
for _ in range(20):
    with machine_lock("count", path):
        count.write_text(str(int(count.read_text()) + 1))
"""
    count = path.with_suffix(".count")
    count.write_text("0")
    command = [sys.executable, "-c", code, str(path), str(count)]
    processes = [subprocess.Popen(command, cwd=ROOT) for _ in range(4)]
    assert [process.wait(60) for process in processes] == [0] * 4
    assert count.read_text() == "80"
