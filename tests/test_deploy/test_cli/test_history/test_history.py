"""``deploy history`` as people meet it: what is told, what is written, and what is refused in one line."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from deploy.ci.check_report import Commit
from deploy.ci.history.derive import run_of_results
from deploy.ci.history.judging import judged
from deploy.ci.history.series import Filters
from deploy.ci.history.store import add_runs, read_runs
from deploy.results.results import load

ROOT = Path(__file__).parents[4]
GOLDEN = ROOT / "tests" / "golden"
RESULTS = GOLDEN / "results-v1.json"


def many(n, step=None, models=1):
    """Yield runs of results, one a commit, 5 % slower from the commit `step`."""
    whole = run_of_results(load(RESULTS))
    for model in range(models):
        for number in range(n):
            factor = (1.05 if step is not None and number >= step else 1.0) * (1 + 0.001 * (7 * number % 5))
            when = (datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=number)).isoformat()
            points = tuple(
                one.model_copy(
                    update={
                        "key": one.key.model_copy(update={"model": f"{one.key.model}{model or ''}"}),
                        "value": one.value * (factor if one.key.metric.endswith("_ns") else 1),
                    }
                )
                for one in whole.points
            )
            commit = Commit(sha=f"{number:040x}", branch="main", committed_utc=when, dirty=False)
            made = {"created_utc": when, "title": f"model {model}", "commit": commit, "points": points}
            yield whole.model_copy(update={**made, "measurements": whole.measurements[:1]})


@pytest.fixture
def history(here, tmp_path, monkeypatch):
    """Run a command on ``deploy-history.sqlite`` in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: here("history", *arguments)


@pytest.fixture
def full(history):
    add_runs(Path("deploy-history.sqlite"), many(30, step=20))
    return history


def test_import_takes_results_once_and_list_shows_them(history):
    done = history("import", RESULTS)
    assert (done.returncode, done.stdout) == (0, "39 points of 1 runs added to deploy-history.sqlite\n")
    assert "0 points of 1 runs added" in history("import", RESULTS).stdout
    told = history("list", "--metric", "p50", "--backend", "ort").stdout
    assert told.splitlines()[1].split()[1:] == [
        *("golden/dense", "ort,", "2", "threads", "p50"),
        *(run.machine[:8] for run in read_runs(Path("deploy-history.sqlite"))),
        *("1", "790", "us", "none"),
    ]


def test_results_are_put_to_the_commit_that_is_checked_out(history):
    refused = history("import", RESULTS, "--at-head")
    assert refused.returncode == 2
    assert "--at-head: this folder is not in a git repository" in refused.stderr
    named = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], [*named, "commit", "-q", "--allow-empty", "-m", "one"]):
        subprocess.run(["git", *command], check=True)
    assert history("import", RESULTS, "--at-head").returncode == 0
    head = subprocess.run(["git", "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    assert [run.commit.sha for run in read_runs(Path("deploy-history.sqlite"))] == [head]


def test_all_files_are_imported_or_none(history):
    Path("other.json").write_text('{"models": []}', encoding="utf-8")
    refused = history("import", RESULTS, "other.json")
    assert refused.returncode == 2
    assert not Path("deploy-history.sqlite").exists()


def test_show_marks_the_commit_that_was_slower(full):
    pytest.importorskip("ruptures", reason="the extra history is not installed")
    told = full("show", "golden/pruned", "--metric", "p50_ns", "--backend", "ort", "--json")
    [series] = json.loads(told.stdout)
    assert [commit["name"] for commit in series["commits"]] == [f"{number:040x}"[:10] for number in range(30)]
    [change] = series["changes"]
    assert change["sha"] == f"{20:040x}"
    assert change["low"] < 0.05 < change["high"]
    table = full("show", series["id"]).stdout
    marked = next(line for line in table.splitlines() if "between" in line)
    assert f"{20:040x}"[:10] in marked
    assert table.count("not judged") == 2, "the newest commits"
    listed = full("list", "--metric", "p50_ns", "--backend", "ort").stdout
    assert f"in {20:040x}"[:10] in listed


def test_export_and_import_make_the_same_history(full):
    assert full("export", "-o", "all.jsonl").stdout == "30 runs: all.jsonl\n"
    assert full("import", "all.jsonl", "--history", "other.sqlite").returncode == 0
    exported = full("export", "--history", "other.sqlite").stdout
    assert exported == Path("all.jsonl").read_text(encoding="utf-8")


def test_page_writes_one_file(full):
    assert full("page").returncode == 0
    text = Path("deploy-history.html").read_text(encoding="utf-8")
    assert text.count("<svg") == 39
    assert "http" not in text.replace("http://www.w3.org", "")
    assert full("page", "--metric", "p50_ns", "--backend", "ort", "-o", "p50.html").stdout == "2 series: p50.html\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("list", "--history", "none.sqlite"), "none.sqlite: no such file"),
        (("export", "--history", "."), "it is a folder"),
        (("import", "none.json"), "none.json: no such file"),
        (("list", "--model", "golden/dens"), "has no model 'golden/dens'; did you mean 'golden/dense'?"),
        (("page", "--backend", "otr"), "has no backend 'otr'; did you mean 'ort'?"),
        (("list", "--metric", "p51"), "--metric 'p51' is unknown"),
        (("list", "--machine", "xyz"), "no series that matches the options"),
        (("show", "golden/prune"), "has no series or model 'golden/prune'; did you mean 'golden/pruned'?"),
        (("show", "999999999999999999999999"), "has no series or model"),
        (("show", "golden/dense", "--metric", "p99"), "no series that matches the options"),
        (("page", "-o", "."), "cannot write ."),
        (("export", "-o", "nowhere/all.jsonl"), "cannot write nowhere/all.jsonl"),
    ],
)
def test_a_mistake_is_one_line(full, arguments, words):
    done = full(*arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stderr.count("\ndeploy: ") + done.stderr.startswith("deploy: ") == 1
    assert "Traceback" not in done.stderr


def test_names_that_steer_a_terminal_are_shown_as_they_are(history):
    [run] = many(1)
    evil = "\x1b[2J\u202e\n'; DROP TABLE runs; --"
    points = tuple(one.model_copy(update={"key": one.key.model_copy(update={"model": evil})}) for one in run.points[:1])
    add_runs(Path("deploy-history.sqlite"), [run.model_copy(update={"points": points})])
    for done in (history("list"), history("show", evil), history("show", "1"), history("page")):
        assert done.returncode == 0
        assert "\x1b" not in done.stdout
    assert "\x1b" not in Path("deploy-history.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_list_of_10_000_results_takes_little_longer_than_one_of_1(tmp_path):
    small, large = tmp_path / "small.sqlite", tmp_path / "large.sqlite"
    add_runs(small, many(1))
    add_runs(large, many(200, models=50))
    for path in (small, large):
        judged(path, Filters())
    took = {}
    for path in (small, large, small, large):
        begun = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "deploy", "history", "list", "--history", path],
            check=True,
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
        )
        took[path] = min(took.get(path, 1e9), time.perf_counter() - begun)
    assert took[large] < 4 * took[small]
