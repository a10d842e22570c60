"""What a command puts into the temporary folder is gone with it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from benchmarks.machine.lock import LOCK_VARIABLE, lock_path
from deploy.files.scratch import OUTSIDE, scratch_folder

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def outside(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def test_temporary_files_of_a_command_and_its_children_lie_in_one_folder_that_goes(outside, monkeypatch):
    monkeypatch.delenv(LOCK_VARIABLE, raising=False)
    lock = lock_path()
    with pytest.raises(ZeroDivisionError), scratch_folder():
        (folder,) = outside.iterdir()
        assert Path(tempfile.mkdtemp()).parent == folder
        done = subprocess.run([sys.executable, "-c", "import tempfile; print(tempfile.mkdtemp())"], capture_output=True)
        assert Path(done.stdout.decode().strip()).parent == folder
        assert os.environ[OUTSIDE] == str(outside)
        assert lock_path() == lock, "another lock than that of other commands"
        1 / 0  # noqa: B018
    assert not list(outside.iterdir())
    assert tempfile.gettempdir() == os.environ["TMPDIR"] == str(outside)


HOLD = "from deploy.files.scratch import scratch_folder\nwith scratch_folder():\n    print('made', flush=True); input()"


def test_what_a_killed_command_left_is_removed_by_the_next_and_nothing_else(outside):
    others = {outside / name for name in ("prune-deploy-mine", "prune-deploy.lock", "prune-deploy-file")}
    (outside / "prune-deploy-mine").mkdir()
    (outside / "prune-deploy.lock").touch()
    (outside / "prune-deploy-file").touch()
    command = [sys.executable, "-c", HOLD]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as alive:
        assert alive.stdout.readline() == b"made\n"
        (living,) = set(outside.iterdir()) - others
        with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as killed:
            assert killed.stdout.readline() == b"made\n"
            (left,) = set(outside.iterdir()) - others - {living}
            killed.kill()
        assert left.exists()
        with scratch_folder():
            assert not left.exists()
            assert living.exists()
        alive.stdin.write(b"\n")
    assert set(outside.iterdir()) == others


def test_a_machine_without_a_temporary_folder_runs_what_needs_none(monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_get_default_tempdir", lambda: (_ for _ in ()).throw(FileNotFoundError(2, "none")))
    with scratch_folder():
        assert OUTSIDE not in os.environ
