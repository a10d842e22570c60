"""Results promises: nothing is lost on the disk, old files stay readable, bad files are told in one line."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from types import SimpleNamespace

import pytest
from pydantic import ValidationError

from benchmarks.journal import Begun, Journal
from benchmarks.records.measurement import (
    Agreement,
    Comparison,
    Cost,
    Environment,
    Measurement,
    Memory,
    Subject,
    Trial,
)
from benchmarks.settings import Settings
from benchmarks.stats.log_ratios import log_ratios
from benchmarks.stopping import judge_pairs
from deploy.bundles.pruning import PruningRecord
from deploy.errors import OutputError, ResultsError
from deploy.recipe import Recipe
from deploy.results import results as results_module
from deploy.results.gather import results_of_bench, results_of_journal, results_of_run
from deploy.results.results import (
    ModelRow,
    Results,
    Skipped,
    load,
)

ROOT = Path(__file__).parents[3]
GOLDEN = ROOT / "tests" / "golden" / "results-v1.json"
MIB = 1 << 20

COSTS = {
    "dense": Cost(macs=10_000_000, parameters=270_000, weight_bytes=1_080_000, activation_bytes=400_000,
                  file_bytes=1_100_000),
    "pruned": Cost(macs=5_000_000, parameters=140_000, weight_bytes=560_000, activation_bytes=260_000,
                   file_bytes=580_000),
}  # fmt: skip
RECIPE = {
    "name": "golden",
    "network": {"name": "cifar:resnet20"},
    "data": {"name": "digits", "root": "/home/somebody/data"},
    "prune": {"target": {"flops": 0.5}},
}


def environment(**changes) -> Environment:
    facts = {
        "system": "Linux 6.1 x86_64",
        "cpu": "Simulated CPU",
        "cpu_cores": 2,
        "memory_bytes": 8 << 30,
        "python": "3.11.9",
        "packages": {"numpy": "2.0.0", "onnx": "1.18.0"},
        "busy_fraction": 0.02,
    }
    return Environment(**{**facts, **changes})


def subject(label: str, backend: str) -> Subject:
    sha256 = f"{len(label)}" * 64
    return Subject(label=label, model=f"/tmp/run/{label}/model.onnx", sha256=sha256, backend=backend, threads=2)


def measurement(label: str, backend: str, median_us: float, *, seed: int = 0, **changes) -> Measurement:
    """Simulate six processes of four blocks of five calls, log-normal around a median that differs by process."""
    draw = random.Random(f"{seed} {label} {backend}")

    def trial(order: int) -> Trial:
        centre = 1000 * median_us * draw.lognormvariate(0, 0.01)
        blocks = tuple(tuple(round(centre * draw.lognormvariate(0, 0.06)) for _ in range(5)) for _ in range(4))
        memory = Memory(baseline_bytes=60 * MIB, peak_bytes=(60 + draw.randrange(8, 12)) * MIB)
        return Trial(
            order=order,
            import_ns=90_000_000,
            load_ns=round(draw.uniform(20e6, 24e6)),
            first_run_ns=round(3 * centre),
            warmup_ns=tuple(round(centre * draw.lognormvariate(0.1, 0.1)) for _ in range(3)),
            warmup_ended="steady",
            blocks_ns=blocks,
            cpu_ns=sum(map(sum, blocks)),
            memory=memory,
            executed_precision="fp32",
        )

    agreement = Agreement(
        reference="torch 2.15", max_abs_error=2e-6, output_range=20.0, tolerance=1e-3, n_inputs=8, ok=True
    )
    parts = {
        "subject": subject(label, backend),
        "backend_version": "1.0",
        "environment": environment(packages={"numpy": "2.0.0", backend: "1.0"}),
        "agreement": agreement,
        "trials": tuple(trial(order) for order in range(6)),
        "seed": seed,
        "started_utc": "2026-01-01T00:00:00+00:00",
    }
    return Measurement(**{**parts, **changes})


def failed(label: str, backend: str, reason: str, kind: str) -> Measurement:
    return measurement(label, backend, 1, trials=(), agreement=None, failure=reason, failure_kind=kind)


def pair(backend: str, dense_us: float, pruned_us: float) -> Comparison:
    return together(measurement("dense", backend, dense_us), measurement("pruned", backend, pruned_us))


def together(baseline: Measurement, candidate: Measurement, costs=COSTS) -> Comparison:
    parts = {"verdict": "failed"}
    if baseline.failure is None and candidate.failure is None:
        ratios = log_ratios(candidate.trials, baseline.trials)
        decision = judge_pairs(ratios, Settings(trials=len(ratios)), spent=True)
        parts = {"log_ratios": ratios, "speedup": decision.speedup, "verdict": decision.verdict}
    first, second = costs.values()
    return Comparison(baseline=baseline, candidate=candidate, baseline_cost=first, candidate_cost=second, **parts)


def rows() -> tuple[ModelRow, ...]:
    return tuple(
        ModelRow(
            label=label,
            file="model.onnx",
            sha256=subject(label, "ort").sha256,
            file_bytes=COSTS[label].file_bytes,
            cost=COSTS[label],
            score_validation=0.97,
            score_test=test,
            n_test=360,
            backend_scores={"ort": test, "openvino": test - 0.01 * (label == "pruned")},
            method=method,
            settings={"steps": 4} if method else {},
            plan_removed_units=96 if method else None,
        )
        for label, test, method in (("dense", 0.975, None), ("pruned", 0.9667, "taylor"))
    )


def simulated() -> Results:
    doubtful = measurement("pruned", "openvino", 1100, doubts=("other processes used 31% of the machine's CPU time",))
    return Results(
        created_utc="2026-01-01T00:00:00+00:00",
        title="golden: what the pruning bought",
        tool_version="0.1.0",
        environment=environment(),
        models=rows(),
        comparisons=(
            pair("ort", 800, 500),
            together(measurement("dense", "openvino", 900), doubtful),
            together(
                measurement("dense", "torch", 2000),
                failed("pruned", "torch", "the process was killed by signal 9", "WorkerError"),
            ),
        ),
        skipped=(Skipped(backend="trt", reason="there is no NVIDIA GPU", hint="run on a machine that has one"),),
        recipe=RECIPE,
        notes=("The samples are simulated.",),
    )


def test_a_file_gives_back_what_was_saved(tmp_path):
    results = simulated()
    results.save(tmp_path / "results.json")
    assert load(tmp_path / "results.json") == results
    assert [entry.name for entry in tmp_path.iterdir()] == ["results.json"]


def test_files_of_version_1_stay_readable():
    results = load(GOLDEN)
    assert [row.label for row in results.models] == ["dense", "pruned"]
    assert [one.verdict for one in results.comparisons] == ["faster", "slower", "failed"]
    assert results.comparisons[0].flop_ratio == 2.0
    assert results.comparisons[0].speedup.n == 6
    assert len(results.comparisons[0].candidate.trials[0].calls_ns) == 20


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "no such file"),
        ("{", "is not JSON"),
        ("[]", "is not a results file"),
        ('{"title": "x"}', "it has no schema_version"),
        ('{"schema_version": 7}', "schema_version 7; this program reads 1 to 4"),
        ('{"schema_version": true, "title": 1}', "is not a valid results file"),
        ('{"schema_version": 1, "titel": "x"}', "did you mean 'title'"),
        ("\x00\udcff", "is not JSON"),
    ],
)
def test_a_bad_file_is_told_in_one_line(tmp_path, text, words):
    file = tmp_path / "results.json"
    if text is not None:
        file.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ResultsError, match=words) as caught:
        load(file)
    assert "\n" not in str(caught.value)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("place", ["missing/results.json", ".", "file/results.json"])
def test_a_place_that_cannot_be_written_is_told(tmp_path, place):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        simulated().save(tmp_path / place)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_failed_write_leaves_the_earlier_file(tmp_path, monkeypatch):
    file = tmp_path / "results.json"
    simulated().save(file)
    before = file.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OutputError, match="free some space"):
        simulated().model_copy(update={"title": "another"}).save(file)
    assert file.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["results.json"]


def test_only_wrong_answers_disagree():
    wrong = measurement("pruned", "ort", 500).agreement.model_copy(update={"max_abs_error": 3.0, "ok": False})
    broken = failed("pruned", "ort", "wrong answers: output 'y' has shape (1,)", "WrongAnswersError")
    results = simulated().model_copy(
        update={"comparisons": (), "measurements": (
            measurement("dense", "ort", 500),
            failed("dense", "torch", "the process was killed", "WorkerError"),
            measurement("dense", "null", 1, agreement=None),
            broken,
            measurement("pruned", "torch", 500, agreement=wrong),
        )}
    )  # fmt: skip
    assert [told.agrees for told in results.answers()] == [True, True, True, False, False]


def bundle(label: str):
    """What `results_of_run` reads of a bundle."""
    dense = label == "dense"
    return SimpleNamespace(
        model=Path(f"/tmp/run/{label}/model.onnx"),
        sha256=subject(label, "ort").sha256,
        pruning=None if dense else PruningRecord.of({"conv": range(20)}, {"conv": 32}),
        manifest=SimpleNamespace(
            scores=SimpleNamespace(metric="accuracy", validation=0.9, test=0.8, n_test=100),
            cost=SimpleNamespace(zeros=0),
            provenance=SimpleNamespace(
                method=None if dense else "taylor",
                settings={} if dense else {"steps": 4},
                network=SimpleNamespace(n_classes=10),
            ),
        ),
    )


def test_a_run_is_gathered():
    bundles = {label: bundle(label) for label in ("dense", "pruned")}
    accuracy = {"dense": {"ort": 0.8}, "pruned": {"ort": 0.79}}
    recipe = Recipe.model_validate(RECIPE)
    results = results_of_run(recipe, bundles, accuracy, [pair("ort", 800, 500), pair("openvino", 900, 600)])
    dense, pruned = results.models
    assert (dense.label, dense.method, dense.plan_removed_units) == ("dense", None, None)
    assert (dense.n_classes, pruned.n_classes) == (10, 10)
    assert (pruned.label, pruned.method, pruned.plan_removed_units) == ("pruned", "taylor", 12)
    assert (dense.pruning, pruned.pruning) == (None, bundles["pruned"].pruning)
    assert pruned.cost == COSTS["pruned"]
    assert pruned.backend_scores == {"ort": 0.79}
    assert pruned.file == "model.onnx"
    assert results.environment.packages == {"numpy": "2.0.0", "ort": "1.0", "openvino": "1.0"}
    assert "/home/somebody" not in results.model_dump_json()
    assert Recipe.model_validate(results.recipe).name == "golden"
    assert Results.model_validate_json(results.model_dump_json()) == results


def test_scores_of_older_versions_are_accuracies():
    old, now = json.loads(GOLDEN.read_text(encoding="utf-8"))["models"], load(GOLDEN).models
    for row, found in zip(old, now, strict=True):
        assert found.metric == "accuracy"
        assert (found.score_validation, found.score_test) == (row["accuracy_validation"], row["accuracy_test"])
        assert found.backend_scores == row["backend_accuracy"]


def test_an_accuracy_is_a_share_and_a_ratio_is_not():
    row = rows()[0].model_dump()
    with pytest.raises(ValidationError, match=r"accuracy is a share in \[0, 1\], got 28.3"):
        ModelRow.model_validate({**row, "score_test": 28.3})
    assert ModelRow.model_validate({**row, "score_test": 28.3, "metric": "psnr"}).score_test == 28.3


def test_a_run_that_measured_nothing_is_refused():
    with pytest.raises(ResultsError, match="name at least one backend"):
        results_of_run(Recipe.model_validate(RECIPE), {"dense": bundle("dense")}, {}, [])


def test_a_bench_of_one_bare_file_is_gathered(tmp_path):
    found = measurement("small", "ort", 500, environment=environment(steal_fraction=0.1, busy_fraction=0.4))
    other = measurement("small", "torch", 500)
    file = tmp_path / "small.onnx"
    results = results_of_bench([], [found, other], {"small": COSTS["pruned"]}, {"small": file})
    assert [row.label for row in results.models] == ["small"]
    assert results.models[0].sha256 == found.subject.sha256
    assert results.models[0].score_test is None
    assert (results.environment.busy_fraction, results.environment.steal_fraction) == (0.4, 0.1)
    with pytest.raises(ResultsError, match="'small' was not measured"):
        results_of_bench([], [], {"small": COSTS["pruned"]}, {"small": file})


def test_the_module_reads_no_torch_and_no_pruners():
    import subprocess
    import sys

    code = (
        "import sys, deploy.results.results, deploy.report.page, deploy.report.terminal;"
        "assert not {'torch', 'pruners'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_the_simulation_tells_what_it_was_asked_for():
    assert results_module.SCHEMA_VERSION == 4
    assert math.isclose(simulated().comparisons[0].speedup.value, 1.6, rel_tol=0.05)
    assert json.loads(GOLDEN.read_text(encoding="utf-8"))["schema_version"] == 1


@pytest.mark.parametrize("known", [True, False], ids=["with its cost", "of an older version"])
def test_what_was_measured_of_one_model_before_a_kill_is_told(tmp_path, known):
    golden = load(GOLDEN)
    found, cost = golden.comparisons[0].candidate, golden.models[1].cost
    path = tmp_path / "results.json.journal"
    with Journal(path) as journal:
        journal.begin(
            "m", Begun(subject=found.subject, environment=found.environment, cost=cost if known else None, seed=1)
        )
        for trial in found.trials[:2]:
            journal.trial("m", trial)
    if not known:
        with pytest.raises(ResultsError, match="2 trials are in it"):
            results_of_journal(path)
        return
    told = results_of_journal(path)
    assert told.models[0].cost == cost
    assert len(told.measurements[0].trials) == 2
    assert "interrupted" in told.notes[0]
