"""Programs of other people that go on for long."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import psutil
import pytest

from benchmarks.errors import NoAnswerError, WorkerError
from benchmarks.process.foreign import Foreign


def _exchange(words, feed=(), *, silence_s=30.0, **options):
    taken = []
    with Foreign(words, who="it") as program:
        program.exchange(feed, lambda block: taken.append(block) or False, silence_s=silence_s, **options)
        return program.finish(), b"".join(taken)


def test_much_goes_through_both_ways_at_once():
    blocks = [bytes([number % 251]) * 100_000 for number in range(100)]
    assert _exchange(["cat"], blocks) == (0, b"".join(blocks))


def test_one_that_reads_nothing_still_answers():
    assert _exchange(["sh", "-c", "echo full; exit 3"], [bytes(1 << 22)]) == (3, b"full\n")


def test_enough_ends_the_exchange():
    with Foreign(["yes"], who="it") as program:
        program.exchange((), lambda _: True, silence_s=30.0)
        assert program.finish(0.0) < 0


def test_it_is_told_that_somebody_is_there():
    with Foreign(["cat"], who="it") as program:
        heard = []
        program.exchange(
            (b"a",), lambda block: heard.append(block) or len(heard) > 1, silence_s=30, beat=b"b", beat_s=0
        )
    assert b"".join(heard).startswith(b"ab")


def test_one_that_says_nothing_is_given_up():
    with pytest.raises(NoAnswerError, match=r"it: no answer in 0\.1 s"):
        _exchange(["sleep", "100"], silence_s=0.1)


def test_a_flood_of_words_is_ended():
    with pytest.raises(WorkerError, match="it floods standard error"):
        _exchange(["sh", "-c", "exec yes >&2"])


def test_it_has_no_terminal_and_is_ended_by_a_broken_pipe():
    code, said = _exchange(["sh", "-c", "(: </dev/tty) 2>/dev/null || echo none; trap '' TERM; yes | head -n 1"])
    assert (code, said) == (0, b"none\ny\n")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends it with its parent")
def test_it_ends_with_a_parent_that_is_killed():
    code = (
        "from benchmarks.process.foreign import Foreign\n"
        "with Foreign(['sleep', '1000'], who='it') as program:\n"
        "    print(program.pid, flush=True)\n"
        "    program.wait()\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=dict(os.environ)) as parent:
        child = psutil.Process(int(parent.stdout.readline()))
        end_s = time.monotonic() + 30
        while child.name() != "sleep":
            assert time.monotonic() < end_s
            time.sleep(0.01)
        parent.kill()
    while child.is_running() and child.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < end_s
        time.sleep(0.01)
