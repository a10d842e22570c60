"""What tests of processes wait for."""

from __future__ import annotations

import time

import psutil
import pytest


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
