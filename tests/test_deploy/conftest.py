"""Commands of ours, and what tests of processes wait for."""

from __future__ import annotations

import subprocess
import time

import psutil
import pytest

from deploy.cli import command_line
from deploy.user_errors import guarded


@pytest.fixture
def here(capsys, monkeypatch):
    """Run a command in this process, which has loaded already what a new one would load for seconds."""

    def run(*arguments):
        capsys.readouterr()
        monkeypatch.setattr("sys.argv", ["deploy", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            guarded(command_line)
        told = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, ended.value.code or 0, told.out, told.err)

    return run


@pytest.fixture
def wait_until():
    """Wait until a condition holds; fail after minutes."""

    def wait(condition, seconds=300):
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "waited in vain"
            time.sleep(0.1)

    return wait


@pytest.fixture
def wait_until_gone(wait_until):
    """Wait until none of some processes runs any more. One that nobody buried does not run."""

    def lives(process):
        try:
            return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    return lambda processes: wait_until(lambda: not any(lives(process) for process in processes))
