"""Packages of others that are called like ours: never run by a child, and named where they come before ours."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PACKAGES = ("backends", "benchmarks", "deploy", "pruners")
COMMAND = [sys.executable, "-P", "-c", "from prune_deploy import main; main()"]
"""What the script ``deploy`` does: its folder, not the current one, is where Python looks first."""
NETWORK = "def net():\n    raise RuntimeError('no network today')\n"
RUN = """
name: tiny
network: {name: "net.py:net"}
data: {name: digits, limit: 200}
train: {epochs: 1}
prune: {method: l1, target: {flops: 0.6}}
finetune: {epochs: 1}
bench: {backends: [ort]}
"""
STUDY = """
name: tiny
network: {name: "net.py:net"}
data: {name: digits, limit: 200}
train: {epochs: 1}
budgets: {flops: [0.5]}
methods: [l1]
baselines: false
recoveries: [{fine-tune: {epochs: 1}}]
"""


@pytest.fixture
def folder(tmp_path):
    """Make a folder of packages that are called like ours, a network that cannot be built, and recipes for it."""
    for name in PACKAGES:
        stranger(tmp_path, name)
    (tmp_path / "net.py").write_text(NETWORK)
    (tmp_path / "run.yaml").write_text(RUN)
    (tmp_path / "study.yaml").write_text(STUDY)
    return tmp_path


def stranger(folder, name):
    (folder / name).mkdir(parents=True)
    (folder / name / "__init__.py").write_text(f"raise ImportError('a stranger called {name}')\n")


def deploy(*arguments, cwd, path=(ROOT,), command=COMMAND):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path)), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*command, *arguments], capture_output=True, text=True, check=False, cwd=cwd, env=environment, timeout=300
    )


@pytest.mark.slow
@pytest.mark.parametrize("command", [("run", "run.yaml"), ("study", "study.yaml", "--no-measure")])
def test_children_find_our_packages_in_a_folder_that_holds_others(folder, command):
    done = deploy(*command, "--output", str(folder / "out"), cwd=folder)
    written = [file.read_text() for file in (folder / "out").rglob("*.json")]
    told = "\n".join([done.stdout, done.stderr, *written])
    assert "no network today" in told, "the child that builds the network did not get so far"
    assert "stranger" not in told
    assert "No module named" not in told


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_before_ours_in_pythonpath_is_named(tmp_path, name):
    stranger(tmp_path / "theirs", name)
    done = deploy("--help", cwd=tmp_path, path=(tmp_path / "theirs", ROOT))
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == (
        f"deploy: {tmp_path}/theirs/{name} hides the package {name!r} of prune-deploy: {tmp_path}/theirs comes first; "
        "take it out of PYTHONPATH\n"
    )


def test_a_package_in_the_current_folder_is_named_where_python_looks_there_first(tmp_path):
    stranger(tmp_path, "backends")
    done = deploy("--help", cwd=tmp_path, command=[sys.executable, "-m", "deploy"])
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"{tmp_path}/backends hides the package 'backends'" in done.stderr
    assert "start `deploy` in another folder" in done.stderr


def test_packages_after_ours_are_nobodys_business(folder):
    done = deploy("--help", cwd=folder, path=(ROOT, folder))
    assert done.returncode == 0, done.stderr
