"""What a history takes and gives: reports, results of any version, and its own JSON lines, without loss."""

from __future__ import annotations

import json
import lzma
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.records.measurement import Environment, Subject
from deploy.ci.check_report import CheckRow, Commit
from deploy.ci.history.derive import run_of_report
from deploy.ci.history.exchange import as_lines, read_file
from deploy.ci.history.records import LARGEST_NS, KeptMeasurement, KeptPoint, KeptRun, Metric, SeriesKey
from deploy.ci.history.store import add_report, add_runs, read_runs
from deploy.errors import ResultsError

GOLDEN = Path(__file__).parents[3] / "golden"

letters = st.characters(codec="utf-8", exclude_characters="\0")
words, names = st.text(letters, max_size=12), st.text(letters, min_size=1, max_size=12)
numbers = st.floats(-1e30, 1e30)
times = st.datetimes(min_value=datetime(1971, 1, 1)).map(datetime.isoformat)
keys = st.builds(
    SeriesKey,
    model=names,
    backend=words,
    precision=words,
    threads=st.integers(0, 64),
    batch=st.integers(0, 64),
    more=st.sampled_from(["", '{"streams": 2}', '{"cores": [0, 1], "device": "cuda"}']),
    machine=words,
    metric=st.sampled_from(get_args(Metric)),
)
points = st.builds(
    KeptPoint,
    key=keys,
    value=numbers,
    low=st.none() | numbers,
    high=st.none() | numbers,
    confidence=st.none() | numbers,
    n=st.none() | st.integers(1, 1000),
    unfit=st.booleans(),
    sha256=words,
    against=st.none() | words,
    version=st.none() | words,
)
measurements = st.builds(
    KeptMeasurement,
    model=names,
    role=st.sampled_from(["alone", "baseline", "candidate"]),
    subject=st.builds(Subject, label=words, model=words, sha256=words, backend=words),
    backend_version=st.none() | words,
    started_utc=words,
    unfit=st.booleans(),
    failure=st.none() | words,
    trials=st.lists(st.lists(st.integers(1, LARGEST_NS), max_size=5).map(tuple), max_size=3).map(tuple),
)
commits = st.builds(
    Commit,
    sha=st.text("0123456789abcdef", min_size=40, max_size=40),
    branch=st.none() | words,
    committed_utc=times,
    dirty=st.booleans(),
)
limits = st.builds(
    CheckRow,
    model=words,
    file=words,
    limit=words,
    statement=words,
    observed=st.none() | numbers,
    verdict=st.just("kept"),
    outcome=st.just("passed"),
    reason=words,
)
runs = st.builds(
    KeptRun,
    created_utc=times,
    source=st.sampled_from(["check", "results"]),
    title=words,
    tool_version=words,
    machine=names,
    environment=st.builds(
        Environment,
        system=words,
        cpu=words,
        cpu_cores=st.integers(1, 9),
        memory_bytes=st.just(1),
        python=words,
        packages=st.just({}),
    ),
    commit=st.none() | commits,
    measurements=st.lists(measurements, max_size=3).map(tuple),
    points=st.lists(points, max_size=4, unique_by=lambda one: one.key.model_dump_json()).map(tuple),
    limits=st.lists(limits, max_size=2).map(tuple),
)


@settings(max_examples=25)
@given(st.lists(runs, min_size=1, max_size=4, unique_by=lambda run: run.content))
def test_whatever_goes_into_a_history_comes_out_of_another_one(given_runs):
    with TemporaryDirectory() as folder:
        first, second, lines = (Path(folder) / name for name in ("a.sqlite", "b.sqlite", "lines.jsonl"))
        assert add_runs(first, given_runs) == sum(len(run.points) for run in given_runs)
        kept = list(read_runs(first))
        assert sorted(kept, key=lambda run: run.content) == sorted(given_runs, key=lambda run: run.content)
        assert [run.position for run in kept] == sorted(run.position for run in kept)
        lines.write_text("".join(as_lines(kept)), encoding="utf-8")
        assert read_file(lines) == kept
        add_runs(second, read_file(lines))
        assert list(read_runs(second)) == kept
        assert add_runs(second, read_file(lines)) == add_runs(first, kept) == 0


def test_an_exported_report_is_the_report_that_is_here_already(tmp_path, report_of):
    path, lines = tmp_path / "h.sqlite", tmp_path / "h.jsonl"
    add_report(path, report_of(1))
    lines.write_text("".join(as_lines(read_runs(path))), encoding="utf-8")
    assert add_runs(path, read_file(lines)) == 0
    report_of(1).save(tmp_path / "check.json")
    assert read_file(tmp_path / "check.json") == read_file(lines) == [run_of_report(report_of(1))]


@pytest.mark.parametrize("name", ["results-v1.json", "run-v3/results.json.xz", "demo-v4.json.xz"])
def test_results_of_every_version_are_read(tmp_path, name):
    whole = (GOLDEN / name).read_bytes()
    file = tmp_path / "results.json"
    file.write_bytes(lzma.decompress(whole) if name.endswith("xz") else whole)
    [run] = read_file(file)
    assert {"p50_ns", "speedup", "file_bytes", "macs"} <= {point.key.metric for point in run.points}
    assert add_runs(tmp_path / "h.sqlite", [run]) == len(run.points)
    assert list(read_runs(tmp_path / "h.sqlite")) == [run]


def _broken(tmp_path, text):
    file = tmp_path / "given"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ResultsError) as refused:
        read_file(file)
    return str(refused.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is not JSON"),
        ("[1, 2]", "is neither a check report, nor results"),
        ('{"a": 1}', "is neither a check report, nor results"),
        ('{"check_file": "x"}', "has schema_version None"),
        ('{"models": [], "schema_version": 99}', "has schema_version 99"),
        ('{"kind": "deploy history", "schema_version": 7}', "has schema_version 7; this program reads 1"),
        ('{"kind": "deploy history", "schema_version": 1}', "key 'created_utc' is missing"),
    ],
)
def test_what_is_nothing_of_ours_is_refused_in_one_line(tmp_path, text, words):
    said = _broken(tmp_path, text)
    assert words in said
    assert "\n" not in said


def _changed_point(line, **fields):
    return {**json.loads(line)["points"][0], **fields}


def test_a_line_that_is_damaged_is_named(tmp_path, report_of):
    lines = list(as_lines([run_of_report(report_of(number)) for number in range(2)]))
    assert _broken(tmp_path, f"{lines[0]}{lines[1][:500]}\n").startswith(f"line 2 of {tmp_path / 'given'} is not JSON")
    for field, value, words in (
        ("created_utc", "yesterday", "yesterday"),
        ("created_utc", "0001-01-01T00:00:00+14:00", "not a valid time"),
        ("points", [json.loads(lines[0])["points"][0]] * 2, "two points of one run"),
        ("machine", "", "machine"),
        ("points", [_changed_point(lines[0], value=1e31)], "less than or equal to 1000"),
        (
            "points",
            [_changed_point(lines[0], key={"model": "m", "metric": "p50_ns", "more": "[]"})],
            "not a JSON object",
        ),
        ("points", [_changed_point(lines[0], key={"model": "m", "metric": "p50"})], "'p50_ns'"),
        ("measurements", [{**json.loads(lines[0])["measurements"][0], "trials": [[0]]}], "trials"),
    ):
        said = _broken(tmp_path, json.dumps({**json.loads(lines[0]), field: value}))
        assert words in said, said
        assert "\n" not in said


def test_what_is_no_file_is_refused(tmp_path):
    for path, words in ((tmp_path, "folder"), (tmp_path / "none", "no such file")):
        with pytest.raises(ResultsError, match=words):
            read_file(path)
