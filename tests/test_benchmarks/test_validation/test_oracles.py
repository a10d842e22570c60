"""Other people's tools beside ours: that they are asked rightly, and (slow) that they say the same."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.errors import WorkerError
from benchmarks.process.child import package_environment
from benchmarks.scenarios.arrivals import poisson_arrivals
from benchmarks.stats.percentile_bounds import holds_bound
from benchmarks.validation import tool_agreement
from benchmarks.validation.oracles import benchmark_app, loadgen
from benchmarks.validation.oracles.child import ask_child
from benchmarks.validation.tool_agreement import (
    ToolAgreement,
    against_benchmark_app,
    against_its_loop,
    against_loadgen,
    main,
    save_cnn,
)

with_loadgen = pytest.mark.skipif(bool(loadgen.missing()), reason=loadgen.missing())
with_openvino = pytest.mark.skipif(bool(benchmark_app.missing()), reason=benchmark_app.missing())
OPTIONS = {"threads": 1, "streams": 1}


def in_a_process(code):
    """Run LoadGen where its state ends with it; give what `code` prints as JSON."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, env=package_environment(), timeout=120
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def cnn(tmp_path):
    return save_cnn(tmp_path / "cnn.onnx", layers=1, channels=4, side=8)


def test_the_ratio_is_the_median_over_rounds_with_its_interval():
    row = ToolAgreement(
        tool="theirs",
        quantity="p50",
        ours=(98.0, 100.0, 99.0, 101.0, 100.0, 1000.0, 102.0),
        theirs=(100.0,) * 7,
    )
    assert row.ratio.value == pytest.approx(1.0)
    assert (row.ratio.low, row.ratio.high) == (pytest.approx(0.98), pytest.approx(10.0))
    assert row.ratio.n == 7


@pytest.mark.parametrize(
    ("ours", "verdict"),
    [
        ([100.0] * 7, "agrees"),
        ([103.0] * 7, "differs"),
        ([97.0] * 7, "differs"),
        ([100.0] * 6 + [150.0], "unclear"),
        ([100.0] * 5, "unclear"),
    ],
)
def test_agreement_is_claimed_only_where_the_interval_shows_it(ours, verdict):
    row = ToolAgreement(tool="theirs", quantity="p50", ours=tuple(ours), theirs=(100.0,) * len(ours))
    assert row.verdict == verdict


@pytest.mark.parametrize(("share", "value"), [(0.5, 2), (0.9, 3), (0.99, 3)])
def test_percentiles_of_loadgen_are_the_value_at_its_index(share, value):
    assert loadgen.percentile_of_loadgen([3, 0, 2, 1], share) == value


def test_what_is_not_installed_is_said_with_the_way_to_get_it(monkeypatch):
    for tool, extra in ((loadgen, "loadgen"), (benchmark_app, "openvino")):
        monkeypatch.setattr(tool, "find_spec", lambda name: None)
        assert f".[{extra}]" in tool.missing()
    with pytest.raises(WorkerError, match="mlperf_loadgen is not installed"):
        loadgen.run_loadgen("Offline", [lambda: None], 1)
    with pytest.raises(WorkerError, match="openvino is not installed"):
        benchmark_app.run_benchmark_app(Path("none.onnx"), "latency", 1)


def test_the_study_goes_on_without_the_tools_and_says_why(monkeypatch):
    written = []
    for tool in (loadgen, benchmark_app):
        monkeypatch.setattr(tool, "find_spec", lambda name: None)
    assert main([], written.append) == 0
    assert sum("skipped" in line and "pip install" in line for line in written) == 2


@pytest.mark.parametrize(("ours", "rounds", "status"), [(1.0e6, 6, 0), (1.1e6, 6, 1), (1.0e6, 3, 3)])
def test_the_study_says_whether_all_agree(monkeypatch, ours, rounds, status):
    monkeypatch.setattr(loadgen, "missing", lambda: "")
    monkeypatch.setattr(benchmark_app, "missing", lambda: "not here")
    monkeypatch.setattr(tool_agreement, "ask_child", lambda job: [{"SingleStream p50": (ours, 1e6)}] * job["rounds"])
    written = []
    assert main(["--rounds", str(rounds)], written.append) == status
    assert any("SingleStream p50" in line and f"{ours / 1e6:.4f}" in line for line in written)


@pytest.mark.parametrize("backend", ["null", "ort"])
def test_a_child_measures_a_model(cnn, backend):
    job = {"name": "measure", "model": str(cnn), "backend": backend, "options": OPTIONS, "duration_s": 0.05}
    answer = ask_child(job)
    assert answer["median_ns"] > 0
    assert 1e9 / answer["throughput_per_s"] > 0.5 * answer["median_ns"]  # one caller is no faster than its calls


def test_a_child_that_fails_says_why_in_one_line(tmp_path):
    job = {"name": "measure", "model": str(tmp_path / "none.onnx"), "backend": "ort", "options": OPTIONS}
    with pytest.raises(WorkerError, match=r"none\.onnx: no such file"):
        ask_child(job)


def test_a_child_that_takes_too_long_is_ended(cnn):
    job = {"name": "measure", "model": str(cnn), "backend": "null", "options": OPTIONS, "duration_s": 600}
    with pytest.raises(WorkerError, match=r"no answer to 'measure' in 0\.01 s"):
        ask_child(job, timeout_s=0.01)


@pytest.mark.slow
@with_loadgen
@pytest.mark.parametrize(("rate_per_s", "seed"), [(20_000.0, 0), (15_000.0, 12345), (30_001.5, 2**31 + 7)])
def test_the_same_seed_gives_loadgens_schedule_to_the_nanosecond(rate_per_s, seed):
    code = (
        "from benchmarks.validation.oracles.loadgen import run_loadgen\n"
        f"print(run_loadgen('Server', [lambda: None], 3000, rate_per_s={rate_per_s}, seed={seed}).schedule_ns)"
    )
    assert in_a_process(code) == poisson_arrivals(rate_per_s, 3001, seed)[-1]


@pytest.mark.slow
@with_loadgen
@pytest.mark.parametrize("slow_calls", [0, 1, 2, 5])
def test_loadgen_judges_a_server_as_our_early_stopping_does(slow_calls):
    code = (
        "import json, time\n"
        "from benchmarks.validation.oracles.loadgen import run_loadgen\n"
        f"naps = [0.0] * {662 - slow_calls} + [0.2] * {slow_calls}\n"
        "call = lambda: time.sleep(naps.pop(0))\n"
        "found = run_loadgen('Server', [call], 662, rate_per_s=2000.0, bound_ns=150_000_000)\n"
        "print(json.dumps([found.queries, found.over_bound, found.early_stopping_met]))"
    )
    queries, over, met = in_a_process(code)
    assert queries == 662
    assert over >= slow_calls
    assert met == holds_bound(queries, over, 0.99).holds


@pytest.mark.slow
@with_loadgen
def test_several_streams_answer_loadgen_and_a_failing_call_is_told():
    code = (
        "import json, threading, time\n"
        "from benchmarks.errors import WorkerError\n"
        "from benchmarks.validation.oracles.loadgen import run_loadgen\n"
        "threads = set()\n"
        "call = lambda: (threads.add(threading.get_ident()), time.sleep(0.001))\n"
        "found = run_loadgen('Offline', [call, call, call], 90)\n"
        "try:\n"
        "    run_loadgen('SingleStream', [lambda: 1 / 0], 20)\n"
        "except WorkerError as error:\n"
        "    print(json.dumps([len(threads), found.samples_per_s, str(error)]))"
    )
    threads, per_s, error = in_a_process(code)
    assert threads == 3
    assert 0 < per_s < 3000
    assert "division by zero" in error


@pytest.mark.slow
@with_loadgen
def test_ours_and_loadgens_figures_agree(tmp_path):
    rows = against_loadgen(save_cnn(tmp_path / "cnn.onnx"), rounds=40, queries=30)
    assert {row.quantity for row in rows} >= {
        "SingleStream p50",
        "Server p50",
        "Server p90",
        "Server asleep p50",
        "Offline per second",
    }
    for row in rows:
        # In the Server scenario LoadGen wakes late where we spin: see `benchmarks.validation.tool_agreement`.
        assert row.verdict != "differs" or "Server p" in row.quantity, row
        assert abs(math.log(row.ratio.value)) < 0.1, row


@pytest.mark.slow
@with_openvino
def test_ours_and_the_figures_of_benchmark_apps_loop_agree(tmp_path):
    rows = against_its_loop(save_cnn(tmp_path / "cnn.onnx"), rounds=20, queries=80)
    assert len(rows) == 4
    for row in rows:
        # Throughput is a mean: what else runs on a shared machine moves it by percents.
        assert row.verdict != "differs" or "per second" in row.quantity, row
        assert abs(math.log(row.ratio.value)) < 0.1, row


@pytest.mark.slow
@with_openvino
def test_ours_and_benchmark_apps_figures_are_alike(tmp_path):
    rows = against_benchmark_app(save_cnn(tmp_path / "cnn.onnx"), pairs=6, duration_s=1)
    assert len(rows) == 4
    for row in rows:
        assert abs(math.log(row.ratio.value)) < 0.5, row


@pytest.mark.slow
@with_openvino
def test_benchmark_app_says_what_it_chose_and_why_it_failed(tmp_path, conv_model):
    found = benchmark_app.run_benchmark_app(save_cnn(tmp_path / "cnn.onnx"), "throughput", 1, threads=2)
    assert (found.streams, found.threads, found.requests) == (2, 2, 2)
    assert found.iterations > 0
    assert found.median_ns > 0
    with pytest.raises(WorkerError, match=r"benchmark_app failed: .*[Ss]hape"):
        benchmark_app.run_benchmark_app(conv_model, "latency", 1)
