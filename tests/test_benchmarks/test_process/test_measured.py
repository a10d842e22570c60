"""The measured process: what it says, and what becomes of it when things go wrong."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from backends.base import CompileOptions
from benchmarks.errors import NoAnswerError, WorkerError
from benchmarks.process.measured import MeasuredProcess
from benchmarks.process.warmup import WarmUpLimits
from benchmarks.runner import Settings, SubjectSpec, compare, measure

FEEDS = {"x": np.zeros((1, 3, 8, 8), np.float32)}
QUICK = Settings(trials=2, rounds=3, warm_up=WarmUpLimits(min_ns=0, max_ns=10_000_000))
ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and PR_SET_PDEATHSIG")


@pytest.fixture
def start(conv_model):
    """Start measured processes that end with the test."""
    started = []

    def start(backend, *, timeout_s=60.0, call_timeout_s=None, threads=1):
        spec = SubjectSpec(model=conv_model, backend=backend, options=CompileOptions(threads=threads))
        started.append(MeasuredProcess(spec, timeout_s=timeout_s, call_timeout_s=call_timeout_s))
        return started[-1]

    yield start
    for process in started:
        process.close()


def is_gone(pid):
    for _ in range(100):
        status = Path(f"/proc/{pid}/stat")
        if not status.exists() or status.read_text().rpartition(")")[2].split()[0] in "ZX":
            return True
        time.sleep(0.05)
    return False


def test_a_process_answers_all_questions(start):
    process = start("null")
    loaded = process.load(FEEDS)
    assert loaded.executed_precision == "fp32"
    assert loaded.properties["threads"] == "1"
    assert loaded.backend_version == "1"
    assert min(loaded.import_ns, loaded.load_ns, loaded.first_run_ns) > 0
    answers = process.run({"x": np.zeros((1, 3, 8, 8), np.float32)})
    assert answers["y"].shape == (1, 5)
    warm = process.warm_up(WarmUpLimits(min_ns=0, max_ns=10_000_000))
    assert 10 <= len(warm.calls_ns) <= 1000
    process.rest()
    process.wake()
    block = process.block(7, 2)
    assert len(block) == 7
    assert min(block) >= 1
    closing = process.finish()
    assert 0 < closing.memory.baseline_bytes <= closing.memory.peak_bytes < 2**33
    process.close()
    process.close()


@ON_LINUX
def test_a_resting_process_is_stopped(start):
    process = start("null")
    process.load(FEEDS)
    state = Path(f"/proc/{process.pid}/stat")
    process.rest()
    assert state.read_text().rpartition(")")[2].split()[0] == "T"
    process.wake()
    assert len(process.block(1, 0)) == 1
    process.rest()
    process.close()
    assert is_gone(process.pid)


def test_what_a_runtime_prints_does_not_reach_the_answers(start, odd_backends):
    process = start("noisy")
    process.load(FEEDS)
    assert len(process.block(20, 5)) == 20


@pytest.mark.parametrize(
    ("backend", "kind", "reason"),
    [
        ("aborting", "WorkerError", r"aborting on .*conv.onnx: its process was killed by SIGABRT during 'load'; .*"),
        ("exiting", "WorkerError", r"exit code 1 during 'load'; its last words: RuntimeError: a bug in the backend"),
        ("greedy", "RunError", r"out of memory: no 3 TB left"),
        (
            "zeros",
            "WrongAnswersError",
            r"wrong answers: max abs error .* of the output's range, at most 0.0001 is allowed",
        ),
    ],
)
def test_a_failure_is_a_row_with_one_line_and_the_other_model_survives(conv_model, odd_backends, backend, kind, reason):
    broken = SubjectSpec(model=conv_model, label="broken", backend=backend)
    comparison = compare(broken, replace(broken, label="whole", backend="ort"), settings=QUICK)
    assert comparison.verdict == "failed"
    assert comparison.candidate.failure_kind == kind
    assert "\n" not in comparison.candidate.failure
    assert re.search(reason, comparison.candidate.failure)
    assert len(comparison.baseline.trials) == 2
    assert comparison.baseline.agreement.ok


@pytest.mark.parametrize("limits", [{"timeout_s": 2.0}, {"call_timeout_s": 2.0}])
def test_a_process_that_hangs_is_killed(start, odd_backends, limits):
    process = start("hanging", **limits)
    with pytest.raises(NoAnswerError, match="no answer to 'first_run' in 2 s; its process was killed; a larger --b"):
        process.load(FEEDS)
    assert is_gone(process.pid)


def test_a_process_killed_from_outside_is_reported(start):
    process = start("null")
    process.load(FEEDS)
    os.kill(process.pid, 9)
    with pytest.raises(WorkerError, match=r"killed by SIGKILL \(out of memory\?\) during 'block'"):
        process.block(1, 0)


def test_errors_of_the_backend_keep_their_class_and_line(conv_model):
    spec = SubjectSpec(model=conv_model, backend="ort", options=CompileOptions(precision="bf16"))
    measurement = measure(spec, settings=QUICK)
    assert measurement.failure_kind == "OptionError"
    assert "fp32, bf16 was asked for" in measurement.failure


@ON_LINUX
@pytest.mark.parametrize("resting", [False, True])
def test_a_dead_parent_takes_its_processes_along(conv_model, resting):
    code = f"""
import os, sys, numpy as np
from pathlib import Path
from benchmarks.process.measured import MeasuredProcess
from benchmarks.runner import SubjectSpec
process = MeasuredProcess(SubjectSpec(model=Path({str(conv_model)!r}), backend="null"), timeout_s=60)
process.load({{"x": np.zeros((1, 3, 8, 8), np.float32)}})
if {resting}:
    process.rest()
print(process.pid, flush=True)
os.kill(os.getpid(), 9)
"""
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=False)
    assert done.returncode == -9, done.stderr
    assert is_gone(int(done.stdout))


@ON_LINUX
def test_the_threads_asked_for_are_those_of_the_environment(start):
    process = start("null", threads=2)
    process.load(FEEDS)
    environment = Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0")
    assert b"OMP_NUM_THREADS=2" in environment


@ON_LINUX
def test_an_interrupted_comparison_leaves_no_process(conv_model):
    code = f"""
from pathlib import Path
from benchmarks.runner import SubjectSpec, compare
from benchmarks.process import measured
start = measured.MeasuredProcess
def launch(spec, **settings):
    started = start(spec, **settings)
    print(started.pid, flush=True)
    return started
spec = SubjectSpec(model=Path({str(conv_model)!r}), backend="null")
compare(spec, spec, launch=launch)
"""
    root = Path(__file__).parents[3]
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=root
    ) as run:
        pids = [int(run.stdout.readline()) for _ in range(2)]
        run.send_signal(signal.SIGINT)
        assert run.wait(60) != 0
    assert all(is_gone(pid) for pid in pids)
