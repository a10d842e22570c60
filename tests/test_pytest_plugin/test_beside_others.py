"""The plug-in beside other plug-ins: without pytest-benchmark, in the processes of xdist, under pytest-timeout."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAIR = """
    def test_faster(deploy_compare):
        deploy_compare("faster.onnx", "old.onnx")

    def test_slower(deploy_compare):
        deploy_compare("slower.onnx", "old.onnx")
"""
MIXED = """
    import time
    import pytest

    def test_measures(deploy_measure):
        deploy_measure("alone.onnx")

    def test_is_a_benchmark(benchmark):
        benchmark(lambda: None)

    def test_is_neither():
        pass
"""
CLOCK = """
    import time
    import pytest

    @pytest.mark.timeout(4, method="{method}")
    def test_waits(deploy_compare):
        deploy_compare("sleeps.onnx", "old.onnx")

    @pytest.mark.timeout(2, method="signal")
    def test_hangs_afterwards(deploy_compare):
        deploy_compare("faster.onnx", "old.onnx")
        time.sleep(600)
"""


@pytest.fixture(scope="module")
def repository(make_repository, answers):
    made = make_repository(answers)
    made.write("pytest.ini", "[pytest]\naddopts = --strict-markers --strict-config\nfilterwarnings = error\n")
    made.write("test_pair.py", PAIR)
    made.write("test_mixed.py", MIXED)
    return made


def test_without_pytest_benchmark(repository, answers):
    code, output = repository.run("-p", "no:benchmark", "test_pair.py")
    assert code == 1, output
    assert "1 failed, 1 passed" in output
    assert f"E       AssertionError: {answers['slower']['line']}\n" in output
    assert f"SLOWER  test_pair.py::test_slower: {answers['slower']['line']}\n" in output
    assert "not in the table" not in output


def test_coverage_of_the_tests_does_not_trace_what_is_measured(repository, monkeypatch):
    monkeypatch.setenv("COV_CORE_SOURCE", "src")
    code, output = repository.run("-p", "no:benchmark", "-k", "faster", "test_pair.py")
    assert code == 0, output
    assert (repository.folder / "traced").read_text() == "[]"


def test_workers_of_xdist_hand_their_rows_over(repository, answers):
    code, output = repository.run("-n", "2", "--benchmark-json=two.json", "test_pair.py")
    assert code == 1, output
    assert "1 failed, 1 passed" in output
    assert f"SLOWER  test_pair.py::test_slower: {answers['slower']['line']}\n" in output
    assert f"FASTER  test_pair.py::test_faster: {answers['faster']['line']}\n" in output
    assert re.search(r"^test_faster\[candidate\] +\d", output, re.MULTILINE), "the table"
    document = json.loads((repository.folder / "two.json").read_text())
    assert {row["fullname"].partition("::")[2] for row in document["benchmarks"]} == {
        f"test_{name}[{role}]" for name in ("faster", "slower") for role in ("baseline", "candidate")
    }
    assert "rows are not in" not in output


@pytest.mark.slow
def test_rows_of_a_worker_that_died_are_missed_in_one_line(repository):
    repository.write(
        "test_dies.py",
        """
        import os

        def test_measures(deploy_measure):
            deploy_measure("alone.onnx")

        def test_dies():
            os._exit(7)
        """,
    )
    code, output = repository.run("-n", "1", "--max-worker-restart=0", "test_dies.py")
    assert code == 1, output
    assert "MEASURED  test_dies.py::test_measures: " in output
    assert "1 row is not in the table and files of pytest-benchmark: of a process that died\n" in output


@pytest.mark.parametrize(
    ("arguments", "ended"),
    [
        (("--benchmark-only",), "2 passed, 1 skipped"),
        pytest.param(("--benchmark-skip",), "1 passed, 2 skipped", marks=pytest.mark.slow),
        pytest.param(("--benchmark-disable",), "2 passed, 1 skipped", marks=pytest.mark.slow),
        (("-m", "model_speed"), "1 passed, 2 deselected"),
    ],
)
def test_what_is_chosen(repository, arguments, ended):
    code, output = repository.run(*arguments, "-q", "test_mixed.py")
    assert code == 0, output
    assert ended in output
    assert ("MEASURED" in output) == (arguments[0] in {"--benchmark-only", "-m"})


def test_what_the_documentation_shows_runs(make_repository, answers):
    page = (ROOT / "docs" / "ci" / "pytest.md").read_text(encoding="utf-8")
    told = json.loads(json.dumps(answers["alone"]))
    told["document"]["benchmarks"][0]["extra_info"]["p99_s"] = 0.002
    models = {"new": answers["equivalent"], "pruned": answers["faster"], "model": told}
    repository = make_repository(models)
    repository.write("test_page.py", "\n\n".join(re.findall(r"```python\n(.*?)```", page, re.DOTALL)))
    code, output = repository.run("-q", "-p", "no:benchmark", "-m", "model_speed")
    assert code == 0, output
    assert "4 passed" in output


def test_options_of_command_line_and_ini_file(make_repository, answers):
    repository = make_repository(answers)
    repository.write("tox.ini", "[pytest]\ndeploy_budget = 11\ndeploy_inconclusive = skip\ndeploy_results = ours\n")
    repository.write(
        "test_it.py",
        """
        import json
        import os
        import pytest

        def budget(found):
            return json.loads(found.results_file.read_text())["budget_s"]

        def test_configured(deploy_compare):
            assert budget(deploy_compare("faster.onnx", "o")) == float(os.environ["BUDGET"])

        @pytest.mark.model_speed(budget_s=22)
        class TestMarked:
            def test_marked(self, deploy_compare):
                assert budget(deploy_compare("faster.onnx", "o")) == 22
                assert budget(deploy_compare("faster.onnx", "o", budget_s=33)) == 33

            @pytest.mark.model_speed(margin=0.1)
            def test_both(self, deploy_measure, deploy_compare):
                assert budget(deploy_measure("alone.onnx")) == 22

        def test_undecided(deploy_compare):
            deploy_compare("inconclusive.onnx", "o")
        """,
    )
    options = {"11": (), "44.5": ("--deploy-budget=44.5", "--deploy-inconclusive=fail", "--deploy-results=kept")}
    for seconds, arguments in options.items():
        repository.write("conftest.py", (repository.folder / "conftest.py").read_text() + SET.format(seconds))
        code, output = repository.run("-q", "-p", "no:benchmark", *arguments)
        assert ("1 failed, 3 passed" if arguments else "3 passed, 1 skipped") in output
        kept = repository.folder / ("kept" if arguments else "ours") / "test_it.py"
        assert (kept / "TestMarked_test_marked.2.json").is_file()
    code, output = repository.run("-q", "-p", "no:benchmark", "--deploy-budget=soon", "-k", "configured")
    assert code == 1
    assert "UsageError: --deploy-budget: budget_s must be a positive number of seconds, got 'soon'" in output


SET = "\nimport os\nos.environ['BUDGET'] = '{}'\n"


@pytest.mark.parametrize("method", ["signal", pytest.param("thread", marks=pytest.mark.slow)])
def test_the_clock_of_pytest_timeout_stands_still_meanwhile(repository, method):
    """The measuring process sleeps for 5 seconds."""
    repository.write("test_clock.py", CLOCK.format(method=method))
    code, output = repository.run("-q", "-n", "2", "test_clock.py")
    assert code == 1, output
    assert "1 failed, 1 passed" in output
    assert "test_clock.py::test_hangs_afterwards - Failed: Timeout" in output


def test_an_interrupt_ends_the_measuring_process(repository):
    repository.write("test_asleep.py", 'def test_it(deploy_measure):\n    deploy_measure("hangs.onnx")\n')
    mark = repository.folder / "asleep"
    mark.unlink(missing_ok=True)
    started = time.monotonic()
    with subprocess.Popen(
        repository.command("-q", "-p", "no:benchmark", "test_asleep.py"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **repository.settings(),
    ) as process:
        while not mark.exists():
            assert process.poll() is None
            assert time.monotonic() < started + 120
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        output = process.communicate(timeout=120)[0]
    assert process.returncode == 2, output
    assert time.monotonic() < started + 300, "the child sleeps for 600 s, and its end is waited for"


def test_loading_it_loads_little():
    """Nothing of ours, and nothing that pytest has not loaded: it is in every start of somebody's pytest."""
    code = (
        "import sys, pytest, _pytest.config, subprocess, json, tempfile, dataclasses\nbefore = set(sys.modules)\n"
        "import prune_deploy_pytest.plugin\nprint(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    new = {name.partition(".")[0] for name in done.stdout.split()}
    assert new == {"prune_deploy_pytest"}
