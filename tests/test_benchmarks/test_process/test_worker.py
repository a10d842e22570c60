"""What lies between two readings of the clock."""

from __future__ import annotations

import gc
import os
import threading

import numpy as np
import pytest

from backends.registry import create
from benchmarks.process.channel import Channel, ChannelClosedError, ChannelTimeoutError
from benchmarks.process.serving import serve
from benchmarks.process.worker import Worker, timed_calls


class Clock:
    """A clock that only the timed call moves."""

    def __init__(self):
        self.now = 0
        self.readings = 0

    def __call__(self):
        self.readings += 1
        return self.now


def test_each_call_is_timed_alone_with_two_readings():
    clock = Clock()
    durations = iter([5, 7, 0, 11])
    collecting = []

    def call():
        collecting.append(gc.isenabled())
        clock.now += next(durations)

    assert gc.isenabled()
    samples = timed_calls(call, 4, clock)
    assert samples.dtype == np.int64
    assert samples.tolist() == [5, 7, 1, 11], "a call below the clock's resolution counts as 1 ns"
    assert clock.readings == 8
    assert collecting == [False] * 4
    assert gc.isenabled()


def test_garbage_collection_returns_when_a_call_fails():
    def call():
        raise ValueError

    with pytest.raises(ValueError):
        timed_calls(call, 1, Clock())
    assert gc.isenabled()


@pytest.fixture
def conversation():
    """Give both ends of a conversation."""
    (from_parent, to_worker), (from_worker, to_parent) = os.pipe(), os.pipe()
    ends = Channel(from_worker, to_worker), Channel(from_parent, to_parent)
    yield ends
    for end in ends:
        end.close()


def test_a_worker_runs_on_the_clock_it_is_given(conversation, conv_model):
    parent, child = conversation
    clock = Clock()
    thread = threading.Thread(target=serve, args=(child, Worker(clock, create).commands()))
    thread.start()
    feeds = {"x": np.zeros((1, 2, 3, 8, 8), np.float32)}
    options = {"precision": "fp32", "threads": 1, "device": "cpu", "profile": False}
    questions = [
        ({"command": "prepare", "backend": "null", "calls": 1}, feeds),
        ({"command": "load", "model": str(conv_model), "options": options}, {}),
        ({"command": "first_run"}, {}),
        ({"command": "block", "calls": 3, "dropped": 1}, {}),
    ]
    for question, arrays in questions:
        parent.send(question, arrays)
        answer, results = parent.receive(timeout_s=30)
        assert "error" not in answer
    assert results["calls_ns"].tolist() == [1, 1, 1]
    assert clock.readings == 2 + 2 + 2 + 2 * (1 + 3)
    parent.close()
    thread.join(30)
    assert not thread.is_alive(), "the worker outlives the conversation"


@pytest.mark.parametrize("dtype", ["float32", "int64", "bool", "float16", "bfloat16"])
def test_arrays_arrive_as_they_were_sent(conversation, dtype):
    import ml_dtypes  # noqa: F401

    here, there = conversation
    arrays = {
        "a": np.arange(6).reshape(2, 3).astype(dtype),
        "scalar": np.array(1).astype(dtype),
        "none": np.empty((0, 2)),
    }
    here.send({"n": 1}, arrays)
    message, received = there.receive(timeout_s=5)
    assert message == {"n": 1}
    for name, array in arrays.items():
        assert received[name].dtype == array.dtype
        assert np.array_equal(received[name], array)


def test_nobody_waits_for_ever(conversation):
    here, there = conversation
    with pytest.raises(ChannelTimeoutError):
        here.receive(timeout_s=0.01)
    with pytest.raises(ChannelTimeoutError):
        here.send({}, {"big": np.zeros(1 << 22)}, timeout_s=0.01)
    there.close()
    with pytest.raises(ChannelClosedError):
        here.receive(timeout_s=5)
    with pytest.raises(ChannelClosedError):
        here.send({}, {"big": np.zeros(1 << 22)}, timeout_s=5)
