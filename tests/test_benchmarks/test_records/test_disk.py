"""A file appears complete or not at all, whoever writes it beside others."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from benchmarks.records.disk import write_atomically


def test_whatever_is_raised_the_old_file_stays_and_nothing_is_left(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")

    def interrupted(part):
        part.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, interrupted)
    assert [file.name for file in tmp_path.iterdir()] == ["file"]
    assert path.read_text() == "old"


def test_two_processes_that_write_one_file_do_not_meet_in_its_temporary_one(tmp_path):
    path = tmp_path / "file"
    other = f"from benchmarks.records.disk import *\nfrom pathlib import Path\npath = Path({str(path)!r})\n"
    other += "write_atomically(path, lambda part: part.write_text('theirs'))"

    def interleaved(part):
        part.write_text("ours")
        subprocess.run([sys.executable, "-c", other], check=True)
        assert path.read_text() == "theirs"

    write_atomically(path, interleaved)
    assert path.read_text() == "ours"
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_what_a_killed_process_left_half_written_is_removed_by_the_next_one(tmp_path):
    path = tmp_path / "file"
    killed = "import os, signal\nfrom benchmarks.records.disk import *\nfrom pathlib import Path\n"
    killed += "def write(part):\n    part.write_text('half')\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    killed += f"write_atomically(Path({str(path)!r}), write)"
    assert subprocess.run([sys.executable, "-c", killed], check=False).returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert left.suffix == ".part"
    others = [tmp_path / ".file.part", tmp_path / ".file.other.7.part"]
    for other in others:
        other.touch()
    write_atomically(path, lambda part: part.write_text("whole"))
    assert sorted(tmp_path.iterdir()) == sorted([path, *others])
