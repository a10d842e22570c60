"""What the measured process and its parent say to each other arrives as it was said, or is refused."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.process.channel import Channel, ChannelClosedError, ChannelGarbageError, ChannelTimeoutError


@pytest.fixture
def ends():
    """Give two ends of a conversation, and the descriptor through which garbage reaches the first."""
    (to_us, from_them), (to_them, from_us) = os.pipe(), os.pipe()
    ours, theirs = Channel(to_us, from_us), Channel(to_them, from_them)
    yield ours, theirs, from_them
    ours.close()
    theirs.close()


ARRAYS = {
    "scalar": np.array(7, np.int64),
    "none": np.zeros((0, 3), np.float32),
    "truth": np.array([True, False]),
    "half": np.arange(6, dtype=np.float16).reshape(2, 3).T,
    "brain": np.arange(4).astype(ml_dtypes.bfloat16),
    "complex": np.array([1 + 2j], np.complex64),
    "text": np.array([["", "snow"], ["na\u00efve\n", "\U0001f600\0"]], object),
    "a text": np.array("alone", object),
    "no text": np.zeros((2, 0), object),
}


def test_arrays_of_every_type_arrive_as_they_were_sent(ends):
    ours, theirs, _ = ends
    theirs.send({"answer": 1}, ARRAYS)
    theirs.send({"answer": 2})
    message, arrays = ours.receive(timeout_s=5)
    assert message == {"answer": 1}
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype
        assert arrays[name].shape == array.shape
        assert (arrays[name] == array).all(), name
        arrays[name][...] = array  # may be written to
    assert ours.receive(timeout_s=5) == ({"answer": 2}, {})


@settings(max_examples=50, deadline=None)
@given(texts=st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=20))
def test_any_text_arrives(texts):
    reader, writer = os.pipe()
    one, other = Channel(reader, os.dup(writer)), Channel(os.dup(reader), writer)
    try:
        other.send({}, {"t": np.array(texts, object)})
        assert one.receive(timeout_s=5)[1]["t"].tolist() == texts
    finally:
        one.close()
        other.close()


@pytest.mark.parametrize(
    "garbage",
    [
        b"loading plugin...\n",
        b"\x00\xff\xfe\n",
        b"[1, 2]\n",
        b"7\n",
        b"{}\n",
        b'{"arrays": 3}\n',
        b'{"arrays": [["x", "float32"]]}\n',
        b'{"arrays": [["x", "no such type", [1]]]}\n',
        b'{"arrays": [["x", "float32", [-1]]]}\n',
        b'{"arrays": [["x", "float32", ["2"]]]}\n',
        b'{"arrays": [["x", "object", [1]]]}\n' + b"\xff" * 8,
        b'{"arrays": [["x", "object", [1]]]}\n' + (1).to_bytes(8, sys.byteorder) + b"\xff",
        b"[" * 20_000 + b"\n",
    ],
)
def test_what_is_not_a_message_is_garbage(ends, garbage):
    ours, _, into_ours = ends
    assert os.write(into_ours, garbage) == len(garbage)
    with pytest.raises(ChannelGarbageError):
        ours.receive(timeout_s=5)


def test_silence_and_an_end_are_told_apart(ends):
    ours, theirs, _ = ends
    with pytest.raises(ChannelTimeoutError):
        ours.receive(timeout_s=0.01)
    with pytest.raises(ChannelTimeoutError):
        ours.send({}, {"x": np.zeros(1 << 22)}, timeout_s=0.05)
    theirs.close()
    with pytest.raises(ChannelClosedError):
        ours.receive(timeout_s=5)
    with pytest.raises(ChannelClosedError):
        ours.send({}, timeout_s=5)


def test_half_a_message_is_an_end(ends):
    ours, theirs, into_ours = ends
    os.write(into_ours, b'{"arrays": [["x", "float32", [3]]]}\n1234')
    theirs.close()
    with pytest.raises(ChannelClosedError) as caught:
        ours.receive(timeout_s=5)
    assert caught.type is ChannelClosedError


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs pidfd_open")
def test_a_dead_process_is_not_waited_for_although_its_child_holds_the_pipe():
    code = "import subprocess, os; p = subprocess.Popen(['sleep', '60'], close_fds=False); print(p.pid, flush=True)"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stdin=subprocess.PIPE, bufsize=0)
    child = int(process.stdout.readline())
    peer = os.pidfd_open(process.pid)
    try:
        channel = Channel(process.stdout.fileno(), process.stdin.fileno(), peer=peer)
        start = time.monotonic()
        with pytest.raises(ChannelClosedError):
            channel.receive(timeout_s=30)
        assert time.monotonic() - start < 10
    finally:
        os.kill(child, 9)
        os.close(peer)
        process.wait()
        process.stdout.close()
        process.stdin.close()
