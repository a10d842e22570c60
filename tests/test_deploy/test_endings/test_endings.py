"""A command that is ended at any moment leaves nothing behind, keeps what was finished, and can be repeated."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from shutil import rmtree

import psutil
import pytest

from backends.testing import small_cnn
from benchmarks.records.disk import file_sha256

ROOT = Path(__file__).parents[3]
RECIPE = """
name: tiny
network: {name: "cifar:resnet20", options: {width: 0.25}}
data: {name: digits, limit: 100}
train: {epochs: 1, batch_size: 32, lr: 0.05}
"""
RUN = f"""{RECIPE}
prune: {{method: l1, target: {{flops: 0.6}}}}
finetune: {{epochs: 1, batch_size: 32, lr: 0.02}}
bench: {{backends: [ort], threads: 1, trials: 2, budget_s: 0.2}}
"""
STUDY = f"""{RECIPE}
budgets: {{flops: [0.6]}}
methods: [l1]
baselines: false
recoveries: [{{fine-tune: {{epochs: 1, batch_size: 32, lr: 0.02}}}}]
"""
SPACE = ("table", "space", "--network", "cifar:resnet20", "--option", "width=0.25", "--input-shape", "1,8,8", "-o", "s")
COMMANDS = {
    "bench": ("bench", "m.onnx", "--threads", "1", "--fast", "--accept-unfit", "-o", "out"),
    "layers": ("layers", "m.onnx", "--threads", "1", "--duration", "1", "-o", "out"),
    "load": ("load", "m.onnx", "-s", "offline", "--threads", "1", "--duration", "1", "--accept-unfit"),
    "explain": ("explain", "m.onnx", "--against", "m.onnx", "--threads", "1", "--page", "out"),
    "run": ("run", "run.yaml", "-o", "out", "--accept-unfit"),
    "study": ("study", "study.yaml", "-o", "out", "--no-measure"),
    "table build": (
        "table",
        "build",
        "s/dense.onnx",
        "--plan-space",
        "s/plan-space.json",
        "-o",
        "out",
        "--plans",
        "20",
    ),
}
RESUMED = {"run", "study"}
ENDINGS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGKILL)


class Place:
    """A home, a folder for temporary files and one to work in, of nobody else."""

    def __init__(self, root, command):
        self.command = command
        self.home, self.temporary, self.work = (root / name for name in ("home", "temporary", "work"))
        for folder in (self.home, self.temporary, self.work):
            folder.mkdir()
        small_cnn(self.work / "m.onnx")
        (self.work / "run.yaml").write_text(RUN)
        (self.work / "study.yaml").write_text(STUDY)
        self.mark = uuid.uuid4().hex
        if command == "table build":
            self.whole(SPACE)

    def start(self, arguments=None):
        own = {"HOME": str(self.home), "TMPDIR": str(self.temporary), "MARK": self.mark, "PYTHONPATH": str(ROOT)}
        left_out = {"CI", "PRUNE_DEPLOY_LOCK", "PRUNE_DEPLOY_STATE", "XDG_STATE_HOME", "ORT_DISABLE_TELEMETRY"}
        environment = {name: value for name, value in os.environ.items() if name not in left_out}
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "deploy", *(arguments or COMMANDS[self.command])],
            cwd=self.work,
            env={**environment, "OMP_NUM_THREADS": "1", **own},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def whole(self, arguments=None):
        """Run it to its end; gives the seconds that it took."""
        start = time.monotonic()
        process = self.start(arguments)
        _, errors = process.communicate()
        assert process.returncode == 0, errors
        return time.monotonic() - start

    def running(self):
        """List what the command has started and still runs."""
        found = []
        for process in psutil.process_iter():
            try:
                alive = process.status() != psutil.STATUS_ZOMBIE
                if alive and process.pid != os.getpid() and process.environ().get("MARK") == self.mark:
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def left(self):
        """List temporary files, and files that are half written."""
        temporary = {path for path in self.temporary.iterdir() if path.name != "prune-deploy.lock"}
        return temporary | {path for top in (self.home, self.work) for path in top.rglob("*.part")}

    def forget(self):
        """Remove what it has written."""
        out = self.work / "out"
        if out.is_dir():
            rmtree(out)
        else:
            out.unlink(missing_ok=True)

    def weights(self):
        """Hash what a run decided: the plan and the weights."""
        files = [self.work / "out" / "prune" / "plan.json", *sorted(self.work.glob("out/*/weights.safetensors"))]
        return [file_sha256(file) for file in files if file.exists()]


def end(process, ending, after):
    """End a process after some seconds; gives whether it was still running, its exit code and its lines."""
    try:
        _, errors = process.communicate(timeout=after)
    except subprocess.TimeoutExpired:
        process.send_signal(ending)
        _, errors = process.communicate(timeout=60)
        return True, process.returncode, errors
    return False, process.returncode, errors


def check(place, ending, moments, rng, wait_until, length):
    finished = True
    for _ in range(moments):
        if finished:
            place.forget()
        ended, code, errors = end(place.start(), ending, rng.uniform(0, length))
        finished = code == 0
        lines = [line for line in errors.splitlines() if line.startswith("deploy: ")]
        # Before Python has found `deploy`, an interrupt ends Python's own start with its own lines.
        begun = code >= 0 and not (ending == signal.SIGINT and "runpy" in errors)
        assert not begun or "Traceback" not in errors
        if ended and not finished:  # it may have been done already; before Python has begun, the signal itself ends it
            assert code in (128 + ending, -ending) or not begun, errors
            assert len(lines) == (begun and code > 0), errors
        wait_until(lambda: not place.running(), 60)
        if ending != signal.SIGKILL:
            assert not place.left()


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL], ids=lambda ending: ending.name)
def test_a_bench_that_is_ended_leaves_nothing(tmp_path, ending, wait_until):
    place = Place(tmp_path, "bench")
    process = place.start()
    assert "reference" in process.stderr.readline()
    _, code, _ = end(process, ending, random.uniform(0, 0.5))
    assert code == (128 + ending if ending != signal.SIGKILL else -ending)
    wait_until(lambda: not place.running(), 60)
    assert bool(place.left()) == (ending == signal.SIGKILL)
    if ending == signal.SIGKILL:  # the next command goes on as if nothing had been, and clears up
        place.whole()
        assert not place.left()


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("ending", ENDINGS, ids=lambda ending: ending.name)
@pytest.mark.parametrize("command", COMMANDS)
def test_random_moments(tmp_path, command, ending, wait_until):
    moments = int(os.environ.get("PRUNE_DEPLOY_MOMENTS", "8" if command in RESUMED else "20"))
    place = Place(tmp_path, command)
    length = place.whole()
    expected = place.weights()
    check(place, ending, moments, random.Random(f"{command} {ending}"), wait_until, length)
    place.whole()
    assert not place.left()
    assert place.weights() == expected, "what was resumed is not what an undisturbed run gives"


# What docs/security.md names; the last two are of libraries that torch's world imports.
HOME = (".local/state/prune-deploy", ".cache/matplotlib", ".config/matplotlib")
TEMPORARY = {"prune-deploy.lock"}


def only_what_docs_name(tmp_path, command):
    place = Place(tmp_path, command)
    common = Path("/tmp")
    before = {path.name for path in common.iterdir()}
    process = place.start()
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert {path.name for path in place.temporary.iterdir()} <= TEMPORARY
    files = {str(path.relative_to(place.home)) for path in place.home.rglob("*") if path.is_file()}
    assert not {name for name in files if not name.startswith(HOME)}
    # Others work on this machine as well: what is new and ours would carry our name, or the runtime's.
    new = {path.name for path in common.iterdir()} - before
    assert not {name for name in new if "onnxruntime" in name.lower() or name.startswith("torchinductor")}
    documented = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    for name in (*(f"~/{name}" for name in HOME), *TEMPORARY):
        assert name in documented


def test_a_bench_leaves_in_home_and_in_temporary_folders_only_what_docs_name(tmp_path):
    only_what_docs_name(tmp_path, "bench")


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "bench"])
def test_any_command_leaves_only_what_docs_name(tmp_path, command):
    only_what_docs_name(tmp_path, command)
