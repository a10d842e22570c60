"""The list of boards: what commands that run at once write into it is all there."""

from __future__ import annotations

import fcntl
import subprocess
import sys
import threading

import pytest

from benchmarks.machine.state import STATE_VARIABLE
from deploy.edge.boards.known import forget, known_boards, remember

WRITER = """
import sys
from deploy.edge.boards.known import forget, remember
sys.stdin.readline()
for number in range(40):
    address = f"ssh://{sys.argv[1]}{number}"
    remember(address, folder="/x", python="3.12", code="c", sent_bytes=1)
    remember("ssh://both", folder="/x", python="3.12", code="c", sent_bytes=1)
    if number % 2:
        forget(address)
"""


@pytest.fixture(autouse=True)
def _state(tmp_path, monkeypatch):
    monkeypatch.setenv(STATE_VARIABLE, str(tmp_path))


def _remember(address):
    remember(address, folder="/x", python="3.12", code="c", sent_bytes=1)


def test_two_processes_that_write_at_once_lose_nothing():
    words = [sys.executable, "-c", WRITER]
    writers = [
        subprocess.Popen([*words, name], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for name in "ab"
    ]
    for one in writers:
        one.stdin.write("go\n")
        one.stdin.flush()
    assert [one.communicate(timeout=100)[1] for one in writers] == ["", ""]
    known = {one.address: one for one in known_boards()}
    kept = {f"ssh://{name}{number}" for name in "ab" for number in range(0, 40, 2)}
    assert known.keys() == kept | {"ssh://both"}
    assert known["ssh://both"].sent_bytes == 80


def test_whoever_comes_second_waits_for_the_first(tmp_path):
    _remember("ssh://one")
    with (tmp_path / "boards.json.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        second = threading.Thread(target=_remember, args=("ssh://two",))
        second.start()
        second.join(0.3)
        assert second.is_alive()
        assert [one.address for one in known_boards()] == ["ssh://one"], "reading waits for nobody"
    second.join()
    assert [one.address for one in known_boards()] == ["ssh://one", "ssh://two"]


def test_what_is_not_known_is_forgotten_without_a_trace(tmp_path):
    assert not forget("ssh://away")
    assert list(tmp_path.iterdir()) == []
