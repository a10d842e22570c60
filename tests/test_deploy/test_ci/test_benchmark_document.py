"""Results as the JSON of pytest-benchmark: its own numbers, its own readers, and what dashboards take out of it."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from deploy.ci.benchmark.document import as_json, document_of_check, document_of_results, without_row
from deploy.ci.benchmark.stats import stats_of
from deploy.ci.check_report import CheckReport, CheckRow, Commit
from deploy.results.results import load

RECORDED = Path(__file__).parents[2] / "golden" / "results-v1.json"
SHA = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def recorded():
    return load(RECORDED)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 6, 7, 8, 50, 51, 999])
def test_statistics_are_those_of_pytest_benchmark(n):
    theirs = pytest.importorskip("pytest_benchmark.stats").Stats()
    seconds = [random.Random(n + i).lognormvariate(-7, 1) for i in range(n)]
    for one in seconds:
        theirs.update(one)
    ours = stats_of(seconds)
    expected = {name: pytest.approx(value, rel=1e-9) for name, value in theirs.as_dict().items() if name != "outliers"}
    assert ours == {**expected, "outliers": theirs.outliers, "data": seconds, "iterations": 1}


def test_equal_times_have_no_spread():
    stats = stats_of([0.5] * 6)
    assert (stats["stddev"], stats["iqr"], stats["outliers"], stats["ops"]) == (0, 0, "0;0", 2)


def test_a_row_for_each_model_that_was_timed(recorded):
    document = document_of_results(recorded)
    rows = {row["fullname"]: row for row in document["benchmarks"]}
    assert list(rows) == ["dense[ort]", "pruned[ort]", "dense[openvino]", "pruned[openvino]", "dense[torch]"]
    assert without_row(recorded) == (
        "pruned on torch has no row: the process was killed by signal 9",
        "trt has no row: there is no NVIDIA GPU",
    )
    pair = recorded.comparisons[0]
    row = rows["pruned[ort]"]
    assert row["group"] == "pruned against dense on ort"
    assert row["stats"]["data"] == [ns / 1e9 for trial in pair.candidate.trials for ns in trial.calls_ns]
    told = row["extra_info"]
    assert (told["role"], told["verdict"], told["backend"]) == ("candidate", pair.verdict, "ort")
    assert (told["speedup_low"], told["speedup"], told["speedup_high"]) == (
        pair.speedup.low,
        pair.speedup.value,
        pair.speedup.high,
    )
    assert len(told["process_medians_s"]) == len(pair.candidate.trials)
    assert document["commit_info"]["id"] == "unversioned", "no commit is made up"


def checked(recorded):
    row = CheckRow(
        model="classifier",
        file="classifier.onnx",
        limit="slower",
        statement="at most 3 % slower than the baseline",
        allowed=0.03,
        observed=None,
        verdict="kept",
        outcome="passed",
        reason="it is faster",
    )
    return CheckReport(
        created_utc="2026-11-29T12:00:00+00:00",
        tool_version="0.1.0",
        title="models",
        check_file="deploy-check.yaml",
        commit=Commit(sha=SHA, branch="main", committed_utc="2026-11-28T12:00:00+00:00", dirty=True),
        environment=recorded.environment,
        machine="a" * 16,
        budget_s=60,
        took_s=3,
        rows=(row,),
        results={"classifier": recorded, "detector": recorded},
    )


def test_a_check_report_has_its_commit_and_the_names_of_models(recorded):
    document = document_of_check(checked(recorded))
    assert document["commit_info"] == {
        "id": SHA,
        "time": "2026-11-28T12:00:00+00:00",
        "author_time": None,
        "dirty": True,
        "project": None,
        "branch": "main",
    }
    names = [row["fullname"] for row in document["benchmarks"]]
    assert len(set(names)) == len(names) == 10
    assert names[1] == "classifier::pruned[ort]"
    assert document["benchmarks"][1]["group"] == "classifier: pruned against dense on ort"


def test_the_command_writes_what_pytest_benchmark_compares(here, tmp_path, recorded, capsys, monkeypatch):
    cli = pytest.importorskip("pytest_benchmark.cli")
    monkeypatch.chdir(tmp_path)
    checked(recorded).save(tmp_path / "check.json")
    for file, name in ((RECORDED, "pruned[ort]"), (tmp_path / "check.json", "pruned[ort]")):
        done = here("report", file, "--format", "pytest-benchmark", "-o", tmp_path / "rows.json")
        assert done.returncode == 0
        assert done.stdout == ""
        assert "pruned on torch has no row: the process was killed by signal 9\n" in done.stderr
        monkeypatch.setattr("sys.argv", ["pytest-benchmark", "compare", "rows.json", "--group-by=fullname"])
        cli.main()
        assert name in capsys.readouterr().out


def test_the_command_prints_it_without_a_file(here, recorded):
    done = here("report", RECORDED, "--format", "pytest-benchmark")
    assert json.loads(done.stdout) == json.loads(as_json(document_of_results(recorded)))


def test_dashboards_find_what_they_read(here):
    """The tool "pytest" of github-action-benchmark takes these fields of each row."""
    document = json.loads(here("report", RECORDED, "--format", "pytest-benchmark").stdout)
    for row in document["benchmarks"]:
        assert isinstance(row["fullname"], str)
        stats = row["stats"]
        assert stats["ops"] == pytest.approx(1 / stats["mean"])
        assert stats["stddev"] > 0
        assert stats["rounds"] == len(stats["data"])


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ("--format", "pytest_benchmark"),
            "unknown format 'pytest_benchmark'; there are pytest-benchmark, terminal, json, junit, markdown, github, "
            "gitlab, metrics, comment; did you mean 'pytest-benchmark'?",
        ),
        (
            ("--format", "pytest-benchmark", "--json"),
            "--format stands alone: leave --page, --layers, --json",
        ),
        (("-o", "x.json"), "--output is where --format writes to: give --format too, or --page for the page"),
    ],
)
def test_mistakes_are_one_line(here, arguments, line):
    done = here("report", RECORDED, *arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(f"deploy: {line}")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "text", ["{}", "[]", "nonsense", '{"schema_version": 99}', '{"schema_version": 1, "check_file": 3}']
)
def test_other_files_are_refused_in_one_line(here, tmp_path, text):
    (tmp_path / "other.json").write_text(text)
    done = here("report", tmp_path / "other.json", "--format", "pytest-benchmark", "-o", tmp_path / "rows.json")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "rows.json").exists()
