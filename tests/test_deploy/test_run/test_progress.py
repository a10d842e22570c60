"""What a long work shows, by a clock that the test moves."""

from __future__ import annotations

import io
import threading
from types import SimpleNamespace

import pytest

from deploy.run.progress import Progress, span


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_log_has_a_line_every_ten_seconds():
    clock, log = Clock(), io.StringIO()
    with Progress(log, clock=clock).bar("prune by taylor", timed=True) as bar:
        for second in range(1, 26):
            clock.now += 1
            bar.set(f"removal {second}/50", second / 50)
    assert log.getvalue().splitlines() == [
        "prune by taylor",
        "prune by taylor: removal 10/50, 20 % done, ~40 s left",
        "prune by taylor: removal 20/50, 40 % done, ~30 s left",
    ]


def test_a_work_that_says_nothing_is_spoken_for():
    clock, log = Clock(), io.StringIO()
    progress = Progress(log, clock=clock)
    with progress.bar("export the dense network"):
        clock.now += 9
        progress.show()
        clock.now += 2
        progress.show()
    assert log.getvalue().splitlines() == ["export the dense network", "export the dense network: 11 s so far"]


def test_nothing_wakes_up_while_something_is_timed():
    before = set(threading.enumerate())
    progress = Progress(io.StringIO())
    with progress.bar("prune"):
        (speaker,) = set(threading.enumerate()) - before
        with progress.bar("measure widths", timed=True):
            speaker.join(10)
            assert not speaker.is_alive()
            assert not set(threading.enumerate()) - before
        assert len(set(threading.enumerate()) - before) == 1


def test_a_terminal_has_one_live_line_of_whole_words(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    clock, screen = Clock(), Terminal()
    progress = Progress(screen, clock=clock)
    with progress.bar("prune by taylor", timed=True) as bar:
        clock.now += 5
        bar.set("removal 3/10, 41 % of FLOPs gone", 0.3)
        progress.say("a line \x1b[31m")
    text = screen.getvalue()
    assert text == "\r\x1b[2Kprune by taylor: removal 3/10, 41 % of\r\x1b[2Ka line \\u001b[31m\n"


def test_what_was_done_before_does_not_count_as_fast():
    clock, log = Clock(), io.StringIO()
    with Progress(log, clock=clock).bar("prune", timed=True) as bar:
        bar.set("resumed", 0.5)
        clock.now += 10
        bar.set("on", 0.6)
    assert log.getvalue().splitlines()[-1] == "prune: on, 60 % done, ~40 s left"


def test_short_epochs_leave_the_last_one_in_a_log():
    clock, log = Clock(), io.StringIO()
    with Progress(log, clock=clock).training("train", 3) as bar:
        for epoch in (1, 2, 3):
            clock.now += 0.1
            bar.step(epoch, 1, 2, 0.5)
            bar.epoch(SimpleNamespace(epoch=epoch, validation_score=None, train_loss=0.4, seconds=0.1, metric=""))
    assert log.getvalue().splitlines() == ["train", "train: epoch 3/3: loss 0.400, 0.1 s"]


def test_quiet_shows_what_is_said_alone():
    clock, log = Clock(), io.StringIO()
    progress = Progress(log, clock=clock, quiet=True)
    with progress.bar("export") as bar:
        clock.now += 60
        bar.set("half", 0.5)
        progress.say("a warning")
    assert log.getvalue() == "a warning\n"


@pytest.mark.parametrize(("seconds", "said"), [(8.4, "8 s"), (90, "2 min"), (3600, "1 h 0 min")])
def test_spans_are_said_as_people_do(seconds, said):
    assert span(seconds) == said
