"""What goes into a history comes out of it, once, however many write."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from deploy.ci.check_report import load_check
from deploy.ci.history.derive import run_of_report, run_of_results
from deploy.ci.history.store import add_report, add_runs, read_runs
from deploy.errors import HistoryError

ROOT = Path(__file__).parents[4]


def test_a_report_comes_out_as_it_went_in(tmp_path, report_of):
    path, report = tmp_path / "history.sqlite", report_of(3, 1.05)
    added = add_report(path, report)
    [kept] = read_runs(path)
    assert kept == run_of_report(report)
    assert added == len(kept.points)
    assert kept.limits == report.rows
    assert kept.commit == report.commit
    pair = report.results["classifier"].comparisons[0]
    samples = {one.role: one.trials for one in kept.measurements}
    assert samples["candidate"] == tuple(trial.calls_ns for trial in pair.candidate.trials)
    assert samples["baseline"] == tuple(trial.calls_ns for trial in pair.baseline.trials)
    names = {point.key.model for point in kept.points}
    assert names == {"classifier", "classifier (baseline)"}


def test_the_same_report_is_kept_once(tmp_path, report_of):
    path, report = tmp_path / "history.sqlite", report_of()
    assert add_report(path, report) > 0
    assert add_report(path, report) == 0
    report.save(tmp_path / "check.json")
    assert add_report(path, load_check(tmp_path / "check.json")) == 0
    assert add_report(path, report_of(factor=1.01)) > 0
    assert len(list(read_runs(path))) == 2


def test_results_of_a_run_are_named_by_their_recipe(golden):
    recipe = {"name": "my-recipe"}
    run = run_of_results(golden.model_copy(update={"recipe": recipe}))
    assert {point.key.model for point in run.points} == {"my-recipe/dense", "my-recipe/pruned"}
    bench = run_of_results(golden.model_copy(update={"recipe": None}))
    assert {point.key.model for point in bench.points} == {"dense", "pruned"}


def test_a_file_size_belongs_to_no_machine_and_a_time_to_one(report_of):
    run = run_of_report(report_of(machine="b" * 16))
    machines = {point.key.metric: point.key.machine for point in run.points}
    assert machines["file_bytes"] == machines["macs"] == machines["parameters"] == ""
    assert machines["p50_ns"] == machines["speedup"] == machines["accuracy"] == "b" * 16


def test_percentiles_that_the_sample_does_not_support_are_left_out(report_of):
    metrics = {point.key.metric for point in run_of_report(report_of()).points}
    assert {"p50_ns", "p90_ns"} <= metrics
    assert "p99_ns" not in metrics, "120 calls do not tell it"


def test_a_failed_measurement_is_kept_without_points(golden):
    run = run_of_results(golden)
    failed = [one for one in run.measurements if one.failure]
    assert [one.subject.backend for one in failed] == ["torch"]
    assert not failed[0].trials
    assert not [point for point in run.points if point.key.backend == "torch" and point.key.model.endswith("pruned")]


def test_all_runs_are_added_or_none(tmp_path, report_of):
    path = tmp_path / "history.sqlite"
    first, second, third = (run_of_report(report_of(number)) for number in range(3))
    add_runs(path, [first])
    with pytest.raises(HistoryError, match="NOT NULL"):
        add_runs(path, [second, third.model_copy(update={"title": None})])
    assert list(read_runs(path)) == [first]


_WRITER = textwrap.dedent(
    """
    import sys
    from pathlib import Path

    from deploy.ci.check_report import load_check
    from deploy.ci.history.derive import run_of_report
    from deploy.ci.history.store import add_runs

    path, name, n = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    report = load_check(Path(sys.argv[4]))
    points = run_of_report(report)
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(n):
        run = points.model_copy(update={"title": f"{name} {number}"})
        assert add_runs(path, [run]) == len(run.points)
        print(number, flush=True)
    """
)


def _writer(tmp_path, name, n, report):
    command = [sys.executable, "-c", _WRITER, str(tmp_path / "history.sqlite"), name, str(n), str(report)]
    started = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert started.stdout.readline() == "ready\n"
    return started


@pytest.fixture
def small_report(tmp_path, report_of):
    """A report with few samples: what is written is looked at, not how much."""
    report = report_of()
    results = report.results["classifier"]
    pair = results.comparisons[0]
    report.model_copy(
        update={
            "results": {"classifier": results.model_copy(update={"comparisons": (), "measurements": (pair.candidate,)})}
        }
    ).save(tmp_path / "check.json")
    return tmp_path / "check.json"


@pytest.mark.parametrize("n", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_two_processes_that_write_at_once_lose_nothing(tmp_path, small_report, n):
    writers = [_writer(tmp_path, name, n, small_report) for name in "ab"]
    for one in writers:
        one.stdin.write("go\n")
        one.stdin.flush()
    for one in writers:
        one.communicate()
        assert one.returncode == 0
    titles = [run.title for run in read_runs(tmp_path / "history.sqlite")]
    assert sorted(titles) == sorted(f"{name} {number}" for name in "ab" for number in range(n))


@pytest.mark.parametrize("seed", range(5))
def test_a_killed_writer_leaves_whole_transactions(tmp_path, small_report, seed):
    path = tmp_path / "history.sqlite"
    writer = _writer(tmp_path, "a", 100_000, small_report)
    writer.stdin.write("go\n")
    writer.stdin.flush()
    time.sleep(random.Random(seed).uniform(0, 0.4))
    os.kill(writer.pid, signal.SIGKILL)
    said = writer.communicate()[0].split()
    try:
        runs = list(read_runs(path))
    except HistoryError as error:  # killed before its first transaction was whole
        assert re.search("no such file|is empty", str(error))
        runs = []
    whole = run_of_report(load_check(small_report))
    for run in runs:
        assert run.model_copy(update={"title": whole.title}) == whole
    numbers = sorted(int(run.title.split()[1]) for run in runs)
    assert numbers == list(range(len(numbers)))
    assert len(said) <= len(numbers) <= len(said) + 1, "what was acknowledged is there"
    assert add_runs(path, [whole]) == len(whole.points), "the next writer goes on"
