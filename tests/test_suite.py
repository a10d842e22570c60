"""What holds of the tests themselves and of the commands that run them."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

from benchmarks.machine.lock import LOCK_VARIABLE, lock_path

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")

PASSES = "def test_one(): pass\n\n\ndef test_two(): pass\n"
DIES = "import os\n\n\ndef test_before(): pass\n\n\ndef test_dies(): os._exit(7)\n"


@pytest.mark.parametrize("processes", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_a_test_process_that_dies_ends_the_run_with_a_failure(tmp_path, processes):
    """With the options of `make test`; as xdist comes, this waits for ever."""
    for name, text in (("passes", PASSES), ("dies", DIES), ("passes_too", PASSES)):
        (tmp_path / f"test_{name}.py").write_text(text)
    options = re.search(r"^PYTEST := \S+ -m pytest (.*)$", MAKEFILE, re.MULTILINE)
    command = [sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml"), "--rootdir", str(tmp_path), "-q"]
    command += ["-p", "no:cacheprovider", "-n", str(processes), *options[1].split(), str(tmp_path)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=240)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "crashed while running 'test_dies.py::test_dies'" in done.stdout


def test_an_error_in_a_helper_thread_fails_its_test(tmp_path):
    text = "import threading\n\n\ndef test_it():\n    thread = threading.Thread(target=lambda: 1 / 0)\n"
    (tmp_path / "test_it.py").write_text(text + "    thread.start()\n    thread.join()\n")
    command = [sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml"), "--rootdir", str(tmp_path)]
    command += ["-p", "no:cacheprovider", str(tmp_path)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=240)
    assert done.returncode == 1, done.stdout
    assert "ZeroDivisionError" in done.stdout


def test_tests_have_a_lock_of_their_own():
    assert str(lock_path()) == os.environ[LOCK_VARIABLE]
    assert "state" in lock_path().parent.name


def test_no_child_of_a_test_uses_the_lock_of_the_machine():
    """An environment that is written out, instead of changed, must hand the lock on."""
    for path in sorted((ROOT / "tests").rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text)):
            keys = [getattr(key, "value", None) for key in node.keys] if isinstance(node, ast.Dict) else []
            if "PATH" in keys and None not in keys:
                assert "LOCK_VARIABLE" in text, f"{path.relative_to(ROOT)}:{node.lineno}"


def make(folder, *arguments, **variables):
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    command = ["make", *arguments, *(f"{name}={value}" for name, value in variables.items())]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=folder, timeout=60)


@pytest.mark.parametrize("version", ["2.7", "3.10", "3.15"])
@pytest.mark.parametrize("target", ["setup", "test"])
def test_a_python_that_does_not_fit_is_one_line_with_those_that_do(tmp_path, version, target):
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\n[ "$1" = -c ] && echo {version} && exit 0\necho "was asked to $*" >&2\nexit 1\n')
    python.chmod(0o755)
    done = make(tmp_path, target, PYTHON=python)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert f"is Python {version}; prune-deploy works with Python 3.11 3.12 3.13 3.14" in line
    assert done.stdout == ""


def test_a_python_that_is_not_there_is_one_line(tmp_path):
    done = make(tmp_path, "setup", PYTHON="no-such-python")
    (line,) = done.stderr.splitlines()
    assert "no-such-python is not a Python that starts; prune-deploy works with Python 3.11" in line


def test_the_versions_of_python_are_the_same_everywhere():
    listed = re.search(r"^PYTHONS := (.*)$", MAKEFILE, re.MULTILINE)[1].split()
    classifiers = [line.rpartition(" ")[2] for line in PROJECT["project"]["classifiers"] if "Python :: 3." in line]
    assert listed == classifiers
    minors = [int(version.partition(".")[2]) for version in listed]
    assert PROJECT["project"]["requires-python"] == f">=3.{minors[0]},<3.{minors[-1] + 1}"


def test_whatever_fails_the_others_of_make_test_are_run(tmp_path):
    """pytest fails, then ruff: all are asked, and make says so."""
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    for name in ("python", "ruff", "mypy", "lint-imports"):
        program = tmp_path / ".venv" / "bin" / name
        program.write_text(f'#!/bin/sh\necho "asked {name} $*"\nexit {int(name in {"python", "ruff"})}\n')
        program.chmod(0o755)
    stamp = tmp_path / ".venv" / ".installed"
    stamp.touch()
    os.utime(stamp, (time.time() + 3600,) * 2)
    done = make(tmp_path, "test")
    assert done.returncode == 2
    for asked in ("python -m pytest", "ruff check", "ruff format", "mypy", "lint-imports"):
        assert f"asked {asked}" in done.stdout, done.stdout


def test_every_room_stands_in_the_map():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    shown = [
        line.split("|") for line in text.partition("The rooms, one line each")[2].splitlines() if line.startswith("| `")
    ]
    named = {}
    for _, room, what, _ in shown:
        folder = room.strip(" `/")
        named[folder] = what
        assert (ROOT / folder).is_dir(), f"{folder} is in the map and nowhere else"
    for package in ("backends", "benchmarks", "deploy", "pruners"):
        for path in sorted((ROOT / package).rglob("__init__.py")):
            folder = path.parent.relative_to(ROOT)
            inside = named.get(str(folder.parent), "")
            assert str(folder) in named or f"`{folder.name}/`" in inside, f"{folder} has no line in the map"
