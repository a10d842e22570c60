"""Real runtimes in real processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from backends import registry
from backends.base import CompileOptions
from benchmarks.answers.reference import Reference
from benchmarks.machine.lock import LOCK_VARIABLE
from benchmarks.process.warmup import WarmUpLimits
from benchmarks.runner import Settings, SubjectSpec, compare, measure
from benchmarks.stats.summary import summarise

ROOT = Path(__file__).parents[2]
QUICK = Settings(trials=2, rounds=3, budget_s=60, block_ns=1_000_000, warm_up=WarmUpLimits(min_ns=0, max_ns=50_000_000))


@pytest.mark.parametrize("backend", ["ort", "openvino", pytest.param("torch", marks=pytest.mark.slow), "null"])
def test_a_model_is_measured(conv_model, backend):
    state = registry.probe(backend)
    if not state.ok:
        pytest.skip(f"{backend}: {state.reason}")
    spec = SubjectSpec(model=conv_model, backend=backend, batch=3)
    measurement = measure(spec, settings=QUICK)
    assert measurement.failure is None
    assert measurement.backend_version == state.version
    assert measurement.environment.packages[backend] == state.version
    summary = summarise(measurement)
    assert summary.n_trials == 2
    assert summary.throughput_per_s == pytest.approx(3e9 / summary.mean_ns)
    assert 0 < summary.model_bytes < summary.peak_bytes
    assert {trial.executed_precision for trial in measurement.trials} == {"fp32"}
    if backend == "null":
        assert measurement.agreement is None
    else:
        assert measurement.agreement.ok
        assert measurement.agreement.n_inputs == 3
        assert measurement.agreement.max_abs_error < 1e-4
        assert measurement.agreement.reference == "ONNX Runtime, graph optimisations off"


def test_two_models_are_compared_on_given_inputs(conv_model, save_conv_model, tmp_path):
    other = save_conv_model(tmp_path / "other.onnx")
    specs = [SubjectSpec(model=path, label=path.stem, backend="ort") for path in (conv_model, other)]
    images = np.random.default_rng(1).standard_normal((3, 3, 8, 8)).astype(np.float32)
    comparison = compare(*specs, feeds={"x": images}, settings=QUICK)
    assert comparison.verdict == "inconclusive", "two pairs decide nothing"
    assert comparison.candidate.subject.batch == 3
    assert comparison.candidate_cost == comparison.baseline_cost
    assert comparison.speedup.n == 2
    assert type(comparison).model_validate_json(comparison.model_dump_json()) == comparison


def test_wrong_reference_answers_stop_a_measurement_before_it_is_timed(conv_model):
    images = np.ones((2, 3, 8, 8), np.float32)
    reference = Reference(
        inputs={"x": images}, outputs={"y": np.arange(10, dtype=np.float32).reshape(2, 5)}, source="me"
    )
    measurement = measure(SubjectSpec(model=conv_model, backend="ort"), reference=reference, settings=QUICK)
    assert measurement.trials == ()
    assert measurement.failure_kind == "WrongAnswersError"
    assert measurement.failure.startswith("wrong answers: ")
    assert not measurement.agreement.ok


def test_the_parent_holds_no_runtime_and_ort_needs_no_torch(conv_model, tmp_path):
    code = f"""
import sys
from pathlib import Path
from benchmarks.runner import Settings, SubjectSpec, measure
from benchmarks.process.warmup import WarmUpLimits
settings = Settings(trials=1, rounds=3, budget_s=0.2, warm_up=WarmUpLimits(min_ns=0, max_ns=10_000_000))
measurement = measure(SubjectSpec(model=Path({str(conv_model)!r}), backend="ort"), settings=settings)
assert measurement.failure is None, measurement.failure
print(*sorted({{"torch", "pruners", "deploy", "onnxruntime", "openvino"}} & sys.modules.keys()))
"""
    # In the children, importing torch or pruners is an error: they were not installed.
    blocked = tmp_path / "blocked"
    for name in ("torch", "pruners"):
        (blocked / name).mkdir(parents=True)
        (blocked / name / "__init__.py").write_text(f"raise ImportError('{name} must not be imported')\n")
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": f"{blocked}:{ROOT}", "PATH": "/usr/bin:/bin", LOCK_VARIABLE: os.environ[LOCK_VARIABLE]},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def test_threads_are_given_to_the_runtime(conv_model):
    spec = SubjectSpec(model=conv_model, backend="ort", options=CompileOptions(threads=2))
    measurement = measure(spec, settings=Settings(trials=1, rounds=3, budget_s=0.2, warm_up=QUICK.warm_up))
    assert measurement.trials[0].properties["threads"] == "2"
    assert measurement.subject.threads == 2
