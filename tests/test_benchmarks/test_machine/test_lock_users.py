"""What another user of the machine can do to the lock: hold it for a while, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can be two other users"),
    pytest.mark.skipif(not Path("/proc/locks").exists(), reason="this system does not say who holds a lock"),
]

ROOT = Path(__file__).parents[3]
US, OTHER = 40001, 40002
MEASURE = """
import os, sys
from pathlib import Path
from benchmarks.errors import BenchmarkError
from benchmarks.machine import lock
lock.FOREIGN_WAIT_S = 0.5
os.setgroups([]); os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[2]))
try:
    with lock.machine_lock("deploy bench ours.onnx", Path(sys.argv[1]), say=lambda line: print(line, flush=True)):
        print("measured", oct(Path(sys.argv[1]).stat().st_mode & 0o777))
except BenchmarkError as error:
    print(error)
"""
HOLD = """
import fcntl, json, os, sys, time
os.setgroups([]); os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[2]))
path = sys.argv[1]
file = open(path, "r+")
fcntl.flock(file, fcntl.LOCK_EX)
{note}
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture
def path(tmp_path):
    """Name a lock in a folder for everybody, which other users can reach, with the sticky bit of /tmp."""
    folder = Path("/tmp", f"locks-{os.getpid()}")  # what pytest makes is closed to others
    folder.mkdir()
    folder.chmod(0o1777)
    yield folder / "lock"
    for entry in folder.iterdir():
        entry.rmdir() if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    folder.rmdir()


def measured(path, user=US):
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(path), str(user)], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert not done.stderr
    return done.stdout.splitlines()


@contextmanager
def held(path, user, note=""):
    command = [sys.executable, "-c", HOLD.replace("{note}", note), str(path), str(user)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def test_two_users_take_turns(path):
    assert measured(path, OTHER) == ["measured 0o666"]
    assert measured(path) == ["measured 0o666"]
    assert path.stat().st_uid == OTHER


FORGED = """
file.truncate(0)
facts = dict(pid=1, command="init", since="2026-01-01T00:00:00")
file.write("prune-deploy machine lock\\n" + json.dumps(facts) + "\\n")
file.flush()
"""


@pytest.mark.parametrize("note", ["", FORGED])
def test_waiting_for_another_user_ends_and_names_who_it_is(path, note):
    measured(path, OTHER)
    with held(path, OTHER, note) as holder:
        waiting, end = measured(path)
        assert waiting == f"waiting for pid {holder.pid} of user {OTHER}"
        assert end.startswith(f"waited 0 minutes for pid {holder.pid} of user {OTHER}; nothing was measured.")
        assert "PRUNE_DEPLOY_LOCK" in end
    assert measured(path) == ["measured 0o666"], "a holder that was killed left something"


def test_a_file_that_is_closed_to_us_is_refused_at_once_with_its_owner(path):
    path.touch()
    path.chmod(0)
    os.chown(path, OTHER, OTHER)
    (line,) = measured(path)
    assert f"may not write to it and belongs to user {OTHER}; set PRUNE_DEPLOY_LOCK" in line


@pytest.mark.parametrize("kind", ["link", "dangling", "hard link", "fifo", "folder"])
def test_what_another_user_planted_is_left_alone(path, kind):
    precious = path.parent / "precious"
    precious.write_text("our thesis")
    os.chown(precious, US, US)
    match kind:
        case "link":
            path.symlink_to(precious)
        case "dangling":
            path.symlink_to(path.parent / "new")
        case "hard link":
            path.hardlink_to(precious)
        case "fifo":
            os.mkfifo(path, 0o666)
        case _:
            path.mkdir()
    os.chown(path, OTHER if kind != "hard link" else US, -1, follow_symlinks=False)
    (line,) = measured(path)
    assert "cannot be the machine's lock" in line
    assert kind == "hard link" or f"belongs to user {OTHER}" in line
    assert precious.read_text() == "our thesis"
    assert not (path.parent / "new").exists()


def test_a_file_that_is_exchanged_again_and_again_ends_the_wait(path):
    path.parent.chmod(0o777)  # without the sticky bit
    swap = """
while True:
    new = path + ".new"
    open(new, "w").close()
    os.chmod(new, 0o666)
    os.rename(new, path)
"""
    path.touch()
    path.chmod(0o666)
    command = [sys.executable, "-c", HOLD.partition("file =")[0] + swap, str(path), str(OTHER)]
    with subprocess.Popen(command) as process:
        try:
            lines = measured(path)
        finally:
            process.kill()
    assert lines[-1].startswith(("measured", "waited", f"{path} cannot be")), lines
