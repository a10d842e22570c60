"""A model is run in a process of its own: what it answers, and what becomes of it when things go wrong."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from backends.base import CompileOptions
from benchmarks.errors import WorkerError
from benchmarks.layers.process import run_in_process
from benchmarks.layers.profiler import profile_layers
from benchmarks.layers.roofline import Roofline
from benchmarks.layers.worker import run_sessions
from benchmarks.process.child import package_environment
from benchmarks.subject.cost import cost
from benchmarks.subject.subject import SubjectSpec

ROOFLINE = Roofline(
    backend="ort",
    precision="fp32",
    threads=1,
    device="cpu",
    peak_flops=100e9,
    peak_bytes_per_s=10e9,
    gemm_size=512,
    copied_bytes=1 << 20,
)


@pytest.fixture
def feeds():
    return {"x": np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)}


def test_real_layers_hold_all_macs(conv_model):
    found = profile_layers(SubjectSpec(model=conv_model), budget_s=0.3, measure_roofline=lambda *_: ROOFLINE)
    assert found.macs == cost(conv_model).macs
    convolution = next(row for row in found.rows if "conv" in row.nodes)
    assert convolution.time_ns is not None
    assert convolution.channels == (3, 4)
    assert found.backend_version is not None


def test_backends_that_cannot_profile_say_so(conv_model, feeds):
    with pytest.raises(WorkerError, match="no layers to profile") as caught:
        run_in_process("null", conv_model, CompileOptions(profile=True), feeds)
    assert caught.value.kind == "OptionError"


@pytest.mark.parametrize(("backend", "words"), [("aborting", "killed by SIGABRT"), ("exiting", "a bug in the backend")])
def test_a_process_that_dies_is_one_line(odd_backends, conv_model, feeds, backend, words):
    with pytest.raises(WorkerError, match=words):
        run_in_process(backend, conv_model, CompileOptions(), feeds)


def test_a_process_that_hangs_is_killed(odd_backends, conv_model, feeds):
    with pytest.raises(WorkerError, match="no answer to 'profile' in 5 s"):
        run_in_process("hanging", conv_model, CompileOptions(), feeds, timeout_s=5)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
@pytest.mark.parametrize("after_s", [0, 3], ids=["while it starts", "while it hangs"])
def test_no_process_outlives_its_parent(odd_backends, conv_model, after_s):
    code = (
        "import sys, numpy as np; from pathlib import Path; from backends.base import CompileOptions;"
        "from benchmarks.layers.process import run_in_process;"
        "feeds = {'x': np.zeros((1, 3, 8, 8), np.float32)};"
        "run_in_process('hanging', Path(sys.argv[1]), CompileOptions(), feeds)"
    )
    environment = package_environment()
    with subprocess.Popen([sys.executable, "-c", code, str(conv_model)], env=environment) as parent:
        children = []
        wait_for(lambda: children.extend(psutil.Process(parent.pid).children()) or children)
        time.sleep(after_s)
        parent.kill()
    _, alive = psutil.wait_procs(children, timeout=60)
    for child in alive:
        child.kill()
    assert not alive


def wait_for(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_what_a_runtime_prints_is_no_answer(odd_backends, conv_model, feeds):
    found = run_in_process("noisy", conv_model, CompileOptions(), feeds, most_calls=3, sessions=2)
    assert [len(calls) for calls in found.calls_ns] == [3, 3]


def test_sessions_end_by_calls_by_budget_and_by_time(conv_model, feeds):
    question = {
        "backend": "null",
        "model": str(Path(conv_model)),
        "options": {},
        "sessions": 4,
        "most_calls": 10,
        "budget_ns": 100,
        "total_ns": 10**9,
        "turns": 1,
        "beside": "",
    }

    def ask(step_ns, **changes):
        now = iter(range(0, 10**12, step_ns))
        answer, arrays = run_sessions(question | changes, feeds, clock=lambda: next(now))
        assert len(answer["sessions"]) * question.get("turns", 1) <= len(arrays)
        return [len(calls) for calls in arrays.values()]

    assert ask(1) == [10, 10, 10, 10]
    assert ask(25) == [4, 4, 4, 4]
    # Another model takes a turn before each.
    assert ask(1, turns=2, sessions=1, beside=str(conv_model)) == [10, 10, 10, 10]
    # Both make as many calls as that one makes within the budget, and each goes first as often as the other.
    assert ask(25, turns=6, sessions=1, total_ns=0, beside=str(conv_model)) == [4, 4, 4, 4]
    # A call that is longer than the budget is made twice all the same.
    assert ask(1000) == [2, 2, 2, 2]
    assert ask(1000, total_ns=1500) == [2]
