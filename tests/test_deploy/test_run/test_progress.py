"""What a long work shows, by a clock that the test moves."""

from __future__ import annotations

import io
import os
import threading
from itertools import pairwise
from types import SimpleNamespace

import pytest

from benchmarks.machine.lock import machine_lock
from benchmarks.process import channel
from benchmarks.process.waiting import LONG_S, look, watched_by
from deploy.run.progress import Progress, span

LONGEST_SILENCE_S = 15.0


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_log_has_a_line_every_ten_seconds():
    clock, log = Clock(), io.StringIO()
    with Progress(log, clock=clock).bar("prune by taylor") as bar:
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


def test_nothing_wakes_up_while_something_is_timed(tmp_path):
    before = set(threading.enumerate())
    with Progress(io.StringIO()).bar("prune"):
        (speaker,) = set(threading.enumerate()) - before
        with machine_lock("a test", path=tmp_path / "lock"):
            speaker.join(10)
            assert not speaker.is_alive()
            assert not set(threading.enumerate()) - before
        assert len(set(threading.enumerate()) - before) == 1


def test_a_terminal_has_one_live_line_of_whole_words(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    clock, screen = Clock(), Terminal()
    progress = Progress(screen, clock=clock)
    with progress.bar("prune by taylor") as bar:
        clock.now += 5
        bar.set("removal 3/10, 41 % of FLOPs gone", 0.3)
        progress.say("a line \x1b[31m")
    text = screen.getvalue()
    assert text == "\r\x1b[2Kprune by taylor: removal 3/10, 41 % of\r\x1b[2Ka line \\u001b[31m\n"


def test_what_was_done_before_does_not_count_as_fast():
    clock, log = Clock(), io.StringIO()
    with Progress(log, clock=clock).bar("prune") as bar:
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
    with progress.steps("deploy run") as command, progress.bar("export") as bar:
        clock.now += 60
        bar.set("half", 0.5)
        command.step("measure")
        progress.note("a fact")
        progress.say("a warning")
    assert log.getvalue() == "a warning\n"


class Log(io.StringIO):
    """Knows when each line was written."""

    def __init__(self, clock):
        super().__init__()
        self.clock = clock
        self.times = [clock.now]

    def write(self, text):
        self.times.append(self.clock.now)
        return super().write(text)

    def longest_silence_s(self):
        times = [*self.times, self.clock.now]
        return max(after - before for before, after in pairwise(times))


class Sleeping:
    """An event nobody sets: who waits for it sleeps by the clock of the test, until a time."""

    def __init__(self, clock, until):
        self.clock, self.until = clock, until

    def wait(self, seconds):
        self.clock.now += seconds
        return self.clock.now >= self.until


def speak(progress, clock, seconds):
    """Do what the thread does while work says nothing."""
    progress._speak(Sleeping(clock, clock.now + seconds))


def silent(progress, clock):
    clock.now += 3
    speak(progress, clock, 60)


def said_out_of_step(progress, clock):
    for _ in range(10):
        clock.now += 1.7
        progress.note("a line of another kind")
        speak(progress, clock, 9.9)


def trained(progress, clock):
    with progress.training("train", 2) as bar:
        for epoch in (1, 2):
            for step in range(1, 8):
                speak(progress, clock, 9)
                bar.step(epoch, step, 7, 0.5)


def measured_by_short_questions(progress, clock):
    with progress.hushed():
        for _ in range(3000):
            look()
            clock.now += 0.02


def measured_by_long_questions(progress, clock, monkeypatch):
    reading, _ = os.pipe()
    monkeypatch.setattr(channel.time, "monotonic", clock)
    monkeypatch.setattr(channel.select, "poll", lambda: Poll(clock))
    with progress.hushed():
        for offset in (0, 9.99):  # a line is due just after the question was put
            progress.note("a line")
            clock.now += offset
            look()
            with pytest.raises(channel.ChannelTimeoutError):
                channel.Channel(reading, reading).receive(timeout_s=61)


class Poll:
    """Nothing ever comes."""

    def __init__(self, clock):
        self.clock = clock

    def register(self, *_):
        pass

    def poll(self, milliseconds):
        self.clock.now += milliseconds / 1000
        return []


STAGES = [silent, said_out_of_step, trained, measured_by_short_questions, measured_by_long_questions]


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("named", [True, False])
def test_no_stage_is_silent_for_longer_than_15_seconds(stage, named, monkeypatch):
    clock = Clock()
    log = Log(clock)
    progress = Progress(log, clock=clock)
    monkeypatch.setattr(progress, "_speak_or_not", lambda: None)
    more = (monkeypatch,) if stage is measured_by_long_questions else ()
    with progress.steps("deploy bench") as command:
        if named:
            command.step("ort: trial 1 of 6")
        stage(progress, clock, *more)
    assert clock.now - log.times[0] > 40
    assert log.longest_silence_s() <= LONGEST_SILENCE_S


def test_a_wait_is_not_interrupted_before_it_is_long(monkeypatch):
    clock, waits = Clock(), []
    monkeypatch.setattr(Poll, "poll", lambda _, milliseconds: waits.append(milliseconds / 1000) or [(0, 1)])
    monkeypatch.setattr(channel.select, "poll", lambda: Poll(clock))
    progress = Progress(io.StringIO(), clock=clock)
    with progress.hushed(), watched_by(progress):
        for since_a_line in (0, 4, 9.99, 30):
            progress.say("a line")
            clock.now += since_a_line
            channel._wait(0, 1, None, None)
    assert min(waits) >= LONG_S


def test_a_command_shows_its_first_step_at_once_and_of_the_others_one_in_ten_seconds():
    clock, log = Clock(), io.StringIO()
    progress = Progress(log, clock=clock)
    with progress.steps("deploy bench") as command:
        for trial in range(1, 13):
            command.step(f"trial {trial} of 12")
            clock.now += 2
            look()
    assert log.getvalue().splitlines() == ["trial 1 of 12", "trial 5 of 12: 2 s so far", "trial 10 of 12: 2 s so far"]


def test_a_process_that_has_just_started_speaks_sooner():
    clock, log = Clock(), io.StringIO()
    progress = Progress(log, clock=clock)
    with progress.steps("load the libraries"):
        progress._speak(Sleeping(clock, clock.now + 9))
    assert log.getvalue().splitlines() == ["load the libraries: 5 s so far"]


def test_a_terminal_shows_each_step_and_leaves_the_answer_alone():
    clock, screen = Clock(), Terminal()
    progress = Progress(screen, clock=clock)
    with progress.steps("deploy layers") as command:
        command.step("first")
        command.step("second")
        progress.answer()
        clock.now += 60
        look()
        assert screen.getvalue() == "\r\x1b[2Kfirst\r\x1b[2Ksecond\r\x1b[2K"
        command.step("third")
    assert screen.getvalue().endswith("\r\x1b[2Kthird\r\x1b[2K")


@pytest.mark.parametrize(("seconds", "said"), [(8.4, "8 s"), (90, "2 min"), (3600, "1 h 0 min")])
def test_spans_are_said_as_people_do(seconds, said):
    assert span(seconds) == said
