"""Really measured: in a repository whose packages are called like ours, and two tests at once on one machine."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from itertools import pairwise

import psutil
import pytest

from benchmarks.validation.real_machine import chain

THEIRS = """
    import sys
    from pathlib import Path
    import deploy
    import benchmarks.speed
    from tests import helpers

    def test_measures(deploy_measure):
        found = deploy_measure("small.onnx", threads=1, fast=True, unfit="accept")
        assert 0 < found.p50_ms < 1000 and found.peak_bytes > 1e6 and found.n_processes == 2

    def test_compares(deploy_compare):
        found = deploy_compare("small.onnx", "small.onnx", threads=1, fast=True, inconclusive="warn", unfit="warn")
        assert 0.1 < found.speedup < 10

    def test_what_is_loaded():
        assert deploy.OWN == benchmarks.speed.OWN == helpers.OWN == "theirs"
        here = Path(__file__).parents[1]
        for name in ("deploy", "benchmarks", "tests", "backends", "pruners", "prune_deploy"):
            for module in [one for one in sys.modules if one.partition(".")[0] == name]:
                assert Path(sys.modules[module].__file__).is_relative_to(here), module
        assert not {"onnxruntime", "numpy", "pydantic"} & sys.modules.keys()
"""


@pytest.fixture(scope="module")
def theirs(make_repository):
    repository = make_repository()
    for file in ("deploy/__init__.py", "benchmarks/__init__.py", "benchmarks/speed.py", "tests/helpers.py"):
        repository.write(file, 'OWN = "theirs"\n')
    for name in ("backends", "pruners"):
        repository.write(f"{name}/__init__.py", f"raise ImportError('a stranger called {name}')\n")
    repository.write("tests/__init__.py", "")
    repository.write("tests/test_speed.py", THEIRS)
    chain(repository.folder / "small.onnx", 2, rows=16)
    return repository


@pytest.mark.parametrize("chosen", ["not measures", pytest.param("", marks=pytest.mark.slow)])
def test_beside_packages_that_are_called_like_ours(theirs, chosen):
    code, output = theirs.run("-p", "no:benchmark", "-k", chosen)
    assert code == 0, output
    line = "^(INCONCLUSIVE|UNFIT) +tests/test_speed.py::test_compares: candidate against baseline: "
    assert re.search(line, output, re.MULTILINE), output
    assert chosen or "tests/test_speed.py::test_measures: On this machine small takes" in output


@pytest.mark.slow
def test_the_measuring_process_ends_with_a_pytest_that_is_killed(theirs):
    theirs.write("test_long.py", 'def test_it(deploy_measure):\n    deploy_measure("small.onnx", trials=50)\n')
    command, settings = theirs.command("-q", "test_long.py"), theirs.settings()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, **settings) as process:
        end = time.monotonic() + 120
        while not (ours := measuring(process.pid)):
            assert time.monotonic() < end
            time.sleep(0.1)
        os.kill(process.pid, signal.SIGKILL)
    gone, alive = psutil.wait_procs(ours, timeout=120)
    assert gone
    assert not alive


def measuring(pid):
    """Return the children of a process once one of them has children: it has begun to watch for its parent's end."""
    family = psutil.Process(pid).children(recursive=True)
    return family if len(family) > 1 else []


@pytest.mark.slow
def test_two_at_once_wait_for_one_another_and_both_are_right(make_repository):
    repository = make_repository()
    chain(repository.folder / "small.onnx", 10, rows=16)
    chain(repository.folder / "large.onnx", 40, rows=16)
    repository.write(
        "test_speed.py",
        """
        import pytest

        pytestmark = [pytest.mark.timeout(20), pytest.mark.model_speed(threads=1, unfit="accept")]

        def test_faster(deploy_compare):
            assert deploy_compare("small.onnx", "large.onnx").speedup > 2

        def test_slower(deploy_compare):
            deploy_compare("large.onnx", "small.onnx")

        def test_same(deploy_compare):
            assert deploy_compare("small.onnx", "small.onnx", margin=0.5).verdict == "equivalent"
        """,
    )
    code, output = repository.run("-n", "2", "--benchmark-json=rows.json", "--deploy-results=kept")
    assert code == 1, output
    assert "1 failed, 2 passed" in output
    assert "large.onnx against small.onnx: " in output
    assert "ort got SLOWER: 0." in output
    spans = []
    for file in (repository.folder / "kept" / "test_speed.py").iterdir():
        pair = json.loads(file.read_text())["comparisons"][0]
        spans.append((pair["baseline"]["started_utc"], json.loads(file.read_text())["created_utc"]))
    spans.sort()
    assert all(end <= begin for (_, end), (begin, _) in pairwise(spans)), "one at a time"
    assert len(json.loads((repository.folder / "rows.json").read_text())["benchmarks"]) == 6
