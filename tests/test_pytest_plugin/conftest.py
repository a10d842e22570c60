"""A repository of somebody else, whose tests are run by a pytest of their own with our plug-in installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from textwrap import dedent

import pytest

from benchmarks.records.measurement import Fitness, Interval, Reason
from deploy.ci.benchmark.for_pytest import told_of
from deploy.results.results import load

ROOT = Path(__file__).parents[2]
STUB = """
import json, os, sys, time
from pathlib import Path
Path("traced").write_text(str([name for name in os.environ if name.startswith("COV")]))
request = json.loads(Path(sys.argv[-2]).read_text())
Path(request["output"]).write_text(json.dumps(request))
answer = json.loads(Path(request["model"]).read_text())
if answer.get("sleeps"):
    Path("asleep").write_text("")
    time.sleep(answer["sleeps"])
if answer.get("dies"):
    sys.exit("deploy: " + answer["dies"])
Path(sys.argv[-1]).write_text(json.dumps(answer))
"""
"""Takes the answer from the file that it is given as a model, and the request for the results."""
CONFTEST = """
import sys
from pathlib import Path
from prune_deploy_pytest import asking
asking.COMMAND = (sys.executable, "-S", "-E", str(Path(__file__).with_name("stub.py")))
"""


def _pair(results, **changes):
    """Keep the comparison on ort, of a machine that was looked at, with changes."""
    pair = results.comparisons[0]
    side = {"fitness": changes.pop("fitness", Fitness())}
    failed = {key: changes.pop(key) for key in ("failure", "failure_kind") if key in changes}
    if failed:
        failed["trials"] = ()
    sides = {
        "baseline": pair.baseline.model_copy(update=side),
        "candidate": pair.candidate.model_copy(update={**side, **failed}),
    }
    pair = pair.model_copy(update={**sides, **changes})
    return results.model_copy(update={"comparisons": (pair,), "skipped": (), "notes": (), "recipe": None})


def _answers():
    recorded = load(ROOT / "tests" / "golden" / "results-v1.json")

    def interval(value):
        return Interval(value=value, low=value - 0.02, high=value + 0.02, confidence=0.97, n=8)

    wrong = "wrong answers: output 'y' differs by 0.31 where 0.001 is allowed"
    unfit = Fitness(reasons=(Reason(severity="unfit", words="the hypervisor took 31 % of the cores' time"),))
    slower = {"verdict": "slower", "speedup": interval(0.8)}
    pairs = {
        "faster": _pair(recorded),
        "equivalent": _pair(recorded, verdict="equivalent", speedup=interval(1.0)),
        "slower": _pair(recorded, **slower),
        "inconclusive": _pair(recorded, verdict="inconclusive", speedup=interval(1.03)),
        "unfit": _pair(recorded, fitness=unfit, **slower),
        "wrong": _pair(recorded, verdict="failed", speedup=None, failure=wrong, failure_kind="WrongAnswersError"),
        "failed": _pair(
            recorded, verdict="failed", speedup=None, failure="it does not load", failure_kind="ModelLoadError"
        ),
    }
    kept = pairs["faster"]
    alone = kept.model_copy(
        update={"comparisons": (), "measurements": kept.comparisons[0].sides[1:], "models": kept.models[1:]}
    )
    return {
        **{name: told_of(results) for name, results in pairs.items()},
        "alone": told_of(alone),
        "none": {"refused": "none.onnx: no such file", "kind": "ModelLoadError"},
        "unavailable": {"refused": "backend 'trt' cannot run here: no GPU", "kind": "BackendUnavailableError"},
        "dies": {"dies": "this is a bug"},
        "sleeps": {**told_of(pairs["faster"]), "sleeps": 5},
        "hangs": {"sleeps": 600},
    }


@pytest.fixture(scope="session")
def answers():
    """Return what the measuring process answers, by what came out; made from recorded results."""
    return _answers()


class Repository:
    """A folder with tests, and a pytest that has the plug-in as an installed one."""

    def __init__(self, folder: Path, site: Path) -> None:
        self.folder = folder
        info = site / "prune_deploy_plugin-1.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: prune-deploy-plugin\nVersion: 1\n")
        points = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["pytest11"]
        lines = [f"{name} = {value}" for name, value in points.items()]
        (info / "entry_points.txt").write_text("\n".join(["[pytest11]", *lines]) + "\n")
        self._path = (site, ROOT)
        folder.mkdir()

    def write(self, name, text):
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(dedent(text))

    def command(self, *arguments):
        return [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:hypothesispytest", *arguments]

    def settings(self):
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        path = os.pathsep.join(map(str, self._path))
        return {"cwd": self.folder, "env": {**kept, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}}

    def run(self, *arguments):
        """Run pytest in the folder; its output is one text."""
        done = subprocess.run(
            self.command(*arguments), capture_output=True, text=True, check=False, timeout=300, **self.settings()
        )
        return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="session")
def make_repository(tmp_path_factory):
    """Return what makes a repository; with `answers` nothing is measured in it: files of these names are the models."""

    def make(answers=None):
        top = tmp_path_factory.mktemp("theirs")
        repository = Repository(top / "repository", top / "site")
        if answers is not None:
            repository.write("stub.py", STUB)
            repository.write("conftest.py", CONFTEST)
            for name, answer in answers.items():
                repository.write(f"{name}.onnx", json.dumps(answer))
        return repository

    return make
