"""Series: in the order of commits, one machine each; their changes by name."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import pytest

from deploy.ci.history import judging, steps
from deploy.ci.history.database import reading
from deploy.ci.history.derive import run_of_report, run_of_results
from deploy.ci.history.judging import changes_in, judged, kept_changes
from deploy.ci.history.series import CommitPoint, Filters, by_commit, list_series, points_of
from deploy.ci.history.store import add_report, add_runs

P50 = Filters(models=("classifier",), metrics=("p50_ns",))


def add(path, *reports):
    add_runs(path, map(run_of_report, reports))


def commits_of(path, filters=P50):
    with reading(path) as connection:
        [series] = list_series(connection, filters)
        return by_commit(points_of(connection, series.id, filters.branch))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "history.sqlite"


def test_points_stand_in_the_order_of_their_commits(path, report_of):
    order = [5, 2, 9, 0, 7]
    add(path, *(report_of(number, 1 + number / 10) for number in order))
    commits = commits_of(path)
    assert [commit.points[0].sha for commit in commits] == [f"{number:040x}" for number in sorted(order)]
    assert [commit.value for commit in commits] == sorted(commit.value for commit in commits)


def test_a_time_is_a_time_in_whatever_zone_it_is_written(path, report_of):
    first, second = report_of(0), report_of(1)
    shifted = first.commit.model_copy(update={"committed_utc": "2026-03-01T02:30:00+02:00"})
    add(path, second, first.model_copy(update={"commit": shifted}))
    assert [commit.points[0].sha for commit in commits_of(path)] == [f"{number:040x}" for number in (0, 1)]


def test_runs_of_one_commit_are_one(path, report_of):
    later = report_of(3).commit.committed_utc
    runs = [report_of(3, factor, created=_later(report_of, hours)) for hours, factor in ((9, 1.3), (8, 1.0), (10, 1.1))]
    add(path, report_of(4), *runs, report_of(2))
    commits = commits_of(path)
    assert [len(commit.points) for commit in commits] == [1, 3, 1]
    values = [point.value for point in commits[1].points]
    assert commits[1].value == sorted(values)[1], "their median"
    assert [point.committed_utc for point in commits[1].points] == [later] * 3


def _later(report_of, hours):
    return datetime.fromisoformat(report_of(3).created_utc) + timedelta(hours=hours)


def test_uncommitted_changes_stand_for_themselves(path, report_of):
    dirty = [report_of(3, factor, dirty=True, created=_later(report_of, h)) for h, factor in ((1, 1.0), (2, 1.5))]
    add(path, report_of(3), *dirty)
    commits = commits_of(path)
    assert [commit.name for commit in commits] == ["0000000000", "0000000000+", "0000000000+"]


def test_results_without_a_commit_stand_at_their_own_time(path, golden):
    results = golden.model_copy(update={"recipe": None})
    add_runs(
        path, [run_of_results(results.model_copy(update={"created_utc": f"2026-0{m}-01T00:00:00"})) for m in (3, 2)]
    )
    commits = commits_of(path, Filters(models=("dense",), metrics=("p50_ns",), backends=("ort",)))
    assert [commit.name for commit in commits] == ["2026-02-01 00:00", "2026-03-01 00:00"]


def test_times_of_different_machines_are_never_joined(path, report_of):
    add(path, report_of(0, machine="a" * 16), report_of(1, 2.0, machine="b" * 16), report_of(2, machine="a" * 16))
    with reading(path) as connection:
        every = list_series(connection, Filters(models=("classifier",)))
        relative = [one for one in every if one.metric == "speedup"]
        times = [one for one in every if one.metric == "p50_ns"]
        for of_metric in (times, relative):
            assert [(one.machine, one.n_points) for one in of_metric] == [("a" * 16, 2), ("b" * 16, 1)]
        assert {one.machine for one in every if one.metric in ("file_bytes", "macs", "parameters")} == {""}
        assert [one.n_points for one in every if one.metric == "file_bytes"] == [3]
        [short] = list_series(connection, Filters(models=("classifier",), metrics=("p50_ns",), machines=("bb",)))
        assert short.machine == "b" * 16


def test_other_options_are_another_series(path, report_of):
    report = report_of(1)
    results = report.results["classifier"]
    pair = results.comparisons[0]
    subject = pair.candidate.subject.model_copy(update={"threads": 8, "batch": 4, "streams": 2, "precision": "int8"})
    pair = pair.model_copy(update={"candidate": pair.candidate.model_copy(update={"subject": subject})})
    other = report.model_copy(update={"results": {"classifier": results.model_copy(update={"comparisons": (pair,)})}})
    add(path, report_of(0), other)
    with reading(path) as connection:
        places = {one.place: one.n_points for one in list_series(connection, P50)}
    assert places == {"ort, 2 threads": 1, "ort, int8, 8 threads, batch 4, streams 2": 1}


def test_a_branch_is_looked_at_alone(path, report_of):
    add(path, report_of(0), report_of(1, 3.0, branch="try"), report_of(2), report_of(3, branch=None))
    with reading(path) as connection:
        [series] = list_series(connection, Filters(models=("classifier",), metrics=("p50_ns",), branch="main"))
        assert (series.n_points, series.last_sha) == (2, f"{2:040x}")
        assert len(points_of(connection, series.id, "main")) == 2
        assert len(points_of(connection, series.id)) == 4


def test_a_list_reads_the_index_and_asks_once(path, report_of):
    add(path, *(report_of(number) for number in range(3)))
    with reading(path) as connection:
        asked = []
        connection.set_trace_callback(asked.append)
        list_series(connection, Filters())
        connection.set_trace_callback(None)
        assert len(asked) == 1
        plan = "\n".join(row["detail"] for row in connection.execute(f"EXPLAIN QUERY PLAN {asked[0]}"))
    assert "COVERING INDEX points_of_series" in plan
    assert "SCAN runs" not in plan


class TestChanges:
    """What is kept of the changes of a series."""

    @pytest.fixture(autouse=True)
    def _library(self):
        pytest.importorskip("ruptures", reason="the extra history is not installed")

    @pytest.fixture
    def reports(self, report_of):
        noise = np.random.default_rng(7).standard_normal(40)
        return [report_of(n, float(np.exp(0.01 * noise[n])) * (1.06 if n >= 25 else 1)) for n in range(40)]

    def test_a_change_names_its_commits(self, path, reports):
        add(path, *reports)
        [one] = judged(path, P50)
        [change] = one.changes
        assert change.sha == f"{25:040x}"
        assert (change.previous, change.commit) == (f"{24:040x}"[:10], f"{25:040x}"[:10])
        assert change.low < 0.06 < change.high

    def test_what_was_found_is_kept_until_a_point_comes(self, path, reports, monkeypatch):
        add(path, *reports[:-1])
        looked = []
        monkeypatch.setattr(judging, "changes_in", lambda *given: looked.append(1) or changes_in(*given))
        first = judged(path, Filters())
        n_series, before = len(first), len(looked)
        assert before == n_series
        assert [one.changes for one in judged(path, Filters())] == [one.changes for one in first]
        assert len(looked) == before
        add_report(path, reports[-1])
        assert len(looked) == before + n_series, "a report that is added is looked at"
        with reading(path) as connection:
            [series] = list_series(connection, P50)
        assert [change.sha for change in kept_changes(series)] == [f"{25:040x}"]

    def test_a_commit_between_that_is_added_later_is_seen(self, path, reports):
        add(path, *(report for n, report in enumerate(reports) if n != 25))
        assert judged(path, P50)[0].changes[0].sha == f"{26:040x}"
        add_report(path, reports[25])
        assert judged(path, P50)[0].changes[0].sha == f"{25:040x}"

    def test_a_new_version_of_the_backend_is_told_with_the_change(self, path, reports):
        def with_version(report, version):
            results = report.results["classifier"]
            pair = results.comparisons[0]
            pair = pair.model_copy(update={"candidate": pair.candidate.model_copy(update={"backend_version": version})})
            return report.model_copy(
                update={"results": {"classifier": results.model_copy(update={"comparisons": (pair,)})}}
            )

        add(path, *(with_version(report, "1.1" if n >= 25 else "1.0") for n, report in enumerate(reports)))
        assert judged(path, P50)[0].changes[0].versions == ("1.0", "1.1")

    def test_what_an_unfit_machine_measured_is_no_change(self, path, report_of):
        add(path, *(report_of(n) for n in range(30)))
        commits = commits_of(path)
        for unfit, n_changes in ((False, 1), (True, 0)):
            slow = [
                CommitPoint(1.5 * one.value, tuple(replace(point, unfit=unfit) for point in one.points))
                for one in commits[20:]
            ]
            assert len(changes_in("p50_ns", [*commits[:20], *slow])) == n_changes

    def test_without_the_library_what_is_counted_is_known_and_the_rest_is_not(self, path, reports, monkeypatch):
        monkeypatch.setattr(steps, "find_spec", lambda name: None)
        add_report(path, reports[0])
        add(path, *reports[1:])
        found = {one.series.metric: one for one in judged(path, Filters(models=("classifier",)))}
        assert found["p50_ns"].changes is None
        assert "[history]" in found["p50_ns"].why_not
        assert found["file_bytes"].changes == ()
        monkeypatch.undo()
        assert judged(path, P50)[0].changes
