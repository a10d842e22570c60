"""However a measured process dies, it is a row with a reason; the other finishes, and nobody is left behind."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks.process.warmup import WarmUpLimits
from benchmarks.runner import Settings, SubjectSpec, compare, measure

ROOT = Path(__file__).parents[3]
QUICK = Settings(
    trials=2, rounds=3, block_ns=1_000_000, timeout_s=60, warm_up=WarmUpLimits(min_ns=0, max_ns=10_000_000)
)
MARK = "PRUNE_DEPLOY_TEST_MARK"
DEADLINE_S = 10.0
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and PR_SET_PDEATHSIG")

# How each one dies, in the first call of the model: by then it is compiled, and its parent waits.
DEATHS = {
    "segfault": ("ctypes.string_at(0)", "WorkerError", "killed by SIGSEGV"),
    "killed": ("os.kill(os.getpid(), 9)", "WorkerError", "killed by SIGKILL"),
    "terminated": ("os.kill(os.getpid(), 15)", "WorkerError", "killed by SIGTERM"),
    "exit": ("os._exit(3)", "WorkerError", "exit code 3"),
    "quit": ("sys.exit(3)", "WorkerError", "exit code 3"),
    "bug": ("raise ValueError('first line' + chr(10) + 'second line')", "WorkerError", "exit code 1"),
    "memory": (
        "resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30)); hold = [np.ones(1 << 24) for _ in range(64)]",
        "RunError",
        "out of memory",
    ),
    "garbage": ("[os.write(fd, bytes(range(256)) * 99) for fd in (1, 2)]; os._exit(4)", "WorkerError", "exit code 4"),
    "much garbage": (
        "[os.write(fd, b'y' * (1 << 20)) for fd in (1, 2) for _ in range(20)]; os._exit(5)",
        "WorkerError",
        "exit code 5",
    ),
    "closed": ("os.closerange(3, 64); time.sleep(3600)", "WorkerError", ""),
    "scribble": ("scribble(); time.sleep(3600)", "WorkerError", "is garbage"),
    "coloured": (
        "os.write(2, bytes([27]) + b'[31mred' + bytes([0, 7, 10])); os._exit(6)",
        "WorkerError",
        "words: [31mred",
    ),
    "orphans": ("subprocess.Popen(['sleep', '3600'], close_fds=False); os.abort()", "WorkerError", "by SIGABRT"),
    "family": ("subprocess.Popen(['sleep', '3600']); os.abort()", "WorkerError", "killed by SIGABRT"),
}
ALIKE = ("killed", "terminated", "quit", "much garbage", "coloured", "family")
"""Each is much like another death."""

_PLUGIN = """
import ctypes, os, resource, stat, subprocess, sys, time
import numpy as np
from backends.null import NullBackend


def scribble():
    for fd in range(3, 64):
        try:
            if stat.S_ISFIFO(os.fstat(fd).st_mode):
                os.write(fd, bytes([255, 0, 10]) + b"not a message" + bytes([10]))
        except OSError:
            pass


class Dying(NullBackend):
    def _compile(self, model, options):
        compiled = super()._compile(model, options)
        bind = compiled._bind

        def _bind(feeds):
            call = bind(feeds)
            return type("Call", (type(call),), {"__call__": lambda this: self.die()})(call._outputs)

        compiled._bind = _bind
        return compiled


class CompileHangs(NullBackend):
    name = "compile-hangs"

    def _compile(self, model, options):
        while True:
            pass


class CompileRaises(NullBackend):
    name = "compile-raises"

    def _compile(self, model, options):
        raise ZeroDivisionError("in the compiler")


class Sleeps(Dying):
    name = "sleeps"

    def die(self):
        time.sleep(3600)


class Parents(Dying):
    name = "parents"

    def die(self):
        subprocess.run(["sleep", "3600"])


class Slow(Dying):
    name = "slow"

    def die(self):
        time.sleep(0.05)
"""


@pytest.fixture(autouse=True)
def dying_backends(install_backends):
    """Install backends that die."""
    kinds = {"compile-hangs": "CompileHangs", "compile-raises": "CompileRaises", "sleeps": "Sleeps", "slow": "Slow"}
    kinds["parents"] = "Parents"
    text = textwrap.dedent(_PLUGIN)
    for index, (name, (code, _, _)) in enumerate(DEATHS.items()):
        text += f"\n\nclass Dying{index}(Dying):\n    name = {name!r}\n\n    def die(self):\n        {code}\n"
        kinds[name.replace(" ", "-")] = f"Dying{index}"
    install_backends(text, kinds)


@pytest.fixture
def zeros_model(save_model, tmp_path):
    """Write a model that answers zeros, like a backend that computes nothing."""
    value = ("x", TensorProto.FLOAT, (1, 3))
    zero = numpy_helper.from_array(np.zeros(3, np.float32), "zero")
    node = helper.make_node("Mul", ["x", "zero"], ["y"])
    return save_model(tmp_path / "zeros.onnx", [node], [value], [("y", *value[1:])], [zero])


@pytest.fixture
def ours(monkeypatch):
    """Mark all processes that descend from this one from now on; give a function that lists those alive."""
    mark = f"{MARK}={secrets.token_hex(8)}"
    monkeypatch.setenv(*mark.split("="))
    yield lambda: marked(mark)
    for pid in marked(mark):
        os.kill(pid, signal.SIGKILL)


def marked(mark):
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (folder / "environ").read_bytes().split(b"\0") and int(folder.name) != os.getpid():
                found.append(int(folder.name))
        except OSError:
            continue  # it has ended meanwhile
    return found


def wait_until(condition, seconds=DEADLINE_S):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def require_row(measurement, kind, reason):
    assert measurement.trials == ()
    assert measurement.failure_kind == kind
    assert reason in measurement.failure
    assert "\n" not in measurement.failure
    assert len(measurement.failure) < 1000
    assert type(measurement).model_validate_json(measurement.model_dump_json()) == measurement


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in ALIKE)) for name in DEATHS])
def test_every_death_is_a_row_and_the_other_model_is_measured_to_the_end(conv_model, ours, name):
    _, kind, reason = DEATHS[name]
    dead = SubjectSpec(model=conv_model, label="dead", backend=name.replace(" ", "-"))
    alive = replace(dead, label="alive", backend="null")
    comparison = compare(dead, alive, settings=replace(QUICK, timeout_s=3 if name == "scribble" else 60))
    require_row(comparison.candidate, kind, reason)
    assert comparison.verdict == "failed"
    assert comparison.baseline.failure is None
    assert len(comparison.baseline.trials) == QUICK.trials
    assert wait_until(lambda: not ours()), "a process was left behind"


@pytest.mark.parametrize("name", ["compile-hangs", "sleeps"])
def test_a_process_that_hangs_is_killed_in_time(conv_model, ours, name):
    start = time.monotonic()
    measurement = measure(SubjectSpec(model=conv_model, backend=name), settings=replace(QUICK, timeout_s=3))
    require_row(measurement, "NoAnswerError", "no answer to ")
    assert time.monotonic() - start < 3 * 2 + DEADLINE_S
    assert wait_until(lambda: not ours())


def test_an_exception_in_the_compiler_is_named(conv_model, ours):
    measurement = measure(SubjectSpec(model=conv_model, backend="compile-raises"), settings=QUICK)
    require_row(measurement, "WorkerError", "ZeroDivisionError: in the compiler")
    assert wait_until(lambda: not ours())


def test_a_process_killed_while_it_is_measured_is_a_row(zeros_model, ours):
    """Kill the worker in the middle of a trial, as the kernel does when memory is short."""

    def kill():
        """Kill a worker that has been there for a second, or its follower, where it has just ended by itself."""
        assert wait_until(lambda: any(is_worker(pid) for pid in ours()), 60), "no worker was started"
        time.sleep(1.0)

        def killed():
            for pid in filter(is_worker, ours()):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    return True
            return False

        assert wait_until(killed, 60), "there was no worker to kill"

    with ThreadPoolExecutor(1) as helpers:
        killer = helpers.submit(kill)
        # If nobody kills it, it ends in time, and the test fails.
        settings = replace(QUICK, trials=1000, budget_s=90)
        measurement = measure(SubjectSpec(model=zeros_model, backend="slow"), settings=settings)
        killer.result()
    require_row(measurement, "WorkerError", "killed by SIGKILL (out of memory?)")
    assert wait_until(lambda: not ours())


def endings():
    """Give every backend with every way to end; all but a kill, and an interrupt of the first, are slow."""
    for backend in ("slow", "sleeps", "compile-hangs", "parents"):
        for ending in (signal.SIGKILL, signal.SIGINT, signal.SIGTERM):
            often = ending == signal.SIGKILL or (backend, ending) == ("slow", signal.SIGINT)
            yield pytest.param(
                backend, ending, marks=[] if often else [pytest.mark.slow], id=f"{backend}-{ending.name}"
            )


@pytest.mark.parametrize(("backend", "ending"), list(endings()))
def test_an_ended_command_takes_its_processes_along(zeros_model, ours, ending, backend):
    command = [sys.executable, "-m", "deploy", "bench", "-m", str(zeros_model), "-b", backend, "--budget", "60"]
    run = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT, start_new_session=True
    )
    try:
        assert wait_until(lambda: any(is_worker(pid) for pid in ours()), 60), "no worker was started"
        time.sleep(0.5)
        os.kill(run.pid, ending)
        assert run.wait(DEADLINE_S) != 0
    finally:
        run.kill()
        run.wait()
    assert wait_until(lambda: not ours()), "a process outlived the command"


def is_worker(pid):
    try:
        return b"benchmarks.process.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def test_a_reference_that_is_being_computed_ends_with_its_command(conv_model, ours, tmp_path):
    """Kill the parent while ONNX Runtime answers: its process must not go on computing."""
    site = tmp_path / "slow"
    site.mkdir()
    (site / "onnxruntime.py").write_text("import time\ntime.sleep(3600)\n")
    code = (
        "import numpy as np; from pathlib import Path; from benchmarks.answers.reference import compute_references; "
        f"compute_references(Path({str(conv_model)!r}), [{{'x': np.zeros((1, 3, 8, 8), np.float32)}}])"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), str(ROOT)])}
    with subprocess.Popen([sys.executable, "-c", code], env=env, stderr=subprocess.DEVNULL) as run:
        assert wait_until(lambda: len(ours()) >= 2, 60)
        time.sleep(1.0)
        run.kill()
    assert wait_until(lambda: not ours()), "the reference outlived its parent"
