"""A whole job on a simulated machine: who gets the time, what is kept and broken, and what is wrongly so."""

from __future__ import annotations

import subprocess

import numpy as np
import pytest

from benchmarks.errors import WorkerError
from benchmarks.validation.simulated_machine import SimulatedMachine, Weather
from deploy import exit_codes
from deploy.ci.accuracy import Scored
from deploy.ci.benchmark.document import as_json, document_of_check
from deploy.ci.check_file import CheckFile
from deploy.ci.check_report import load_check
from deploy.ci.checking import check
from deploy.ci.formats.page import check_page
from deploy.ci.formats.registry import FORMATS, write_format
from deploy.ci.history.derive import run_of_report
from deploy.ci.history.store import add_report


def verdicts(report):
    return {(row.model, row.limit): row.verdict for row in report.rows}


PAIR = {"model": "now.onnx", "baseline": "before.onnx", "limits": {"larger_file": None, "more_memory": None}}


@pytest.mark.parametrize(
    ("now_ms", "verdict", "code"), [(5.0, "kept", 0), (5.25, "broken", 1), (4.0, "kept", 0), (5.05, "kept", 0)]
)
def test_a_change_is_judged_by_its_limit(job, now_ms, verdict, code):
    report = job({"before": 5.0, "now": now_ms}, {"models": [PAIR]})
    assert verdicts(report) == {("now", "slower"): verdict}
    assert report.exit_code == code
    row = report.rows[0]
    assert row.low <= row.observed <= row.high
    assert row.observed == pytest.approx(now_ms / 5 - 1, abs=0.02)


def test_a_slower_model_on_a_backend_without_layer_times_is_told_without_a_command(job):
    assert job({"before": 5.0, "now": 6.0}, {"models": [PAIR]}).rows[0].remedy == ""


def test_a_slower_model_is_told_with_the_command_that_says_why(job, tmp_path, write_net, monkeypatch):
    monkeypatch.setattr("backends.null.NullBackend.why_no_layers", "")
    here = tmp_path / "a folder"
    here.mkdir()
    monkeypatch.chdir(here)
    ending = "--backend null --threads 1"
    report = job({"before": 5.0, "now": 6.0}, {"models": [PAIR]})
    assert report.rows[0].remedy == f"see why: deploy explain ../now.onnx --against ../before.onnx {ending}"
    np.savez(tmp_path / "given.npz", x=np.zeros((1, 4), np.float32))
    report = job({"before": 5.0, "now": 6.0}, {"models": [{**PAIR, "inputs": "given.npz"}]})
    assert report.rows[0].remedy.endswith(f"{ending} --inputs ../given.npz")
    write_net(tmp_path / "old" / "before.onnx")
    for command in (("init", "--quiet"), ("add", "."), ("commit", "--quiet", "--message", "one")):
        identity = ["-c", "user.name=somebody", "-c", "user.email=somebody@example.org"]
        subprocess.run(["git", "-C", tmp_path, *identity, *command], check=True)
    report = job({"before": 5.0, "now": 6.0}, {"models": [{**PAIR, "baseline": "git:HEAD:old/before.onnx"}]})
    against = "git:HEAD:../old/before.onnx"
    assert report.rows[0].remedy == f"see why: deploy explain ../now.onnx --against {against} {ending}"


def test_nothing_is_wrongly_broken_and_a_slower_model_is_found_in_bad_weather(job):
    weather = Weather(sigma=0.1, bursts_per_s=0.5)
    same = [job({"before": 5.0, "now": 5.0}, {"models": [PAIR]}, seed=seed, weather=weather) for seed in range(10)]
    slow = [job({"before": 5.0, "now": 5.3}, {"models": [PAIR]}, seed=seed, weather=weather) for seed in range(10)]
    assert not any(report.exit_code == exit_codes.REGRESSION for report in same)
    assert sum(report.exit_code == exit_codes.REGRESSION for report in slow) >= 9


def test_limits_that_stand_for_themselves(job):
    limits = {"p50_ms": 6, "p90_ms": 4, "throughput_per_s": 150, "load_ms": 1000, "memory_mb": 1000}
    report = job({"now": 5.0}, {"models": [{"model": "now.onnx", "limits": limits}]})
    assert verdicts(report) == {
        ("now", "p50_ms"): "kept",
        ("now", "p90_ms"): "broken",
        ("now", "throughput_per_s"): "kept",
        ("now", "load_ms"): "kept",
        ("now", "memory_mb"): "kept",
    }
    throughput = next(row for row in report.rows if row.limit == "throughput_per_s")
    assert throughput.observed == pytest.approx(200, rel=0.05)


def test_the_doubtful_model_gets_the_time_that_clear_ones_leave(job):
    models = [
        {"model": "clear.onnx", "baseline": "before.onnx"},
        {"model": "near.onnx", "baseline": "before.onnx"},
        {"model": "fast.onnx", "baseline": "before.onnx"},
    ]
    document = {"models": models, "limits": {"larger_file": None, "more_memory": None}}
    latencies = {"before": 5.0, "clear": 6.0, "near": 5.12, "fast": 4.0}
    report = job(latencies, document, luck=0.02, budget_s=120)
    pairs = {name: len(one.comparisons[0].log_ratios) for name, one in report.results.items()}
    assert pairs["near"] > 2 * max(pairs["clear"], pairs["fast"])
    assert report.took_s <= 1.1 * report.budget_s


def test_what_is_not_decided_is_judged_by_the_policy(job):
    # A difference of just the margin, and no time to tell.
    latencies, document = {"before": 5.0, "now": 5.15}, {"models": [PAIR]}
    outcomes = {}
    for policy in ("fail", "warn", "retry"):
        report = job(latencies, {**document, "inconclusive": policy}, luck=0.05, budget_s=8)
        outcomes[policy] = (report.rows[0].verdict, report.rows[0].outcome, report.exit_code, report.retried)
        assert report.took_s < 12 if policy != "retry" else report.took_s < 22
    assert outcomes["fail"] == ("inconclusive", "failure", exit_codes.INCONCLUSIVE, False)
    assert outcomes["warn"] == ("inconclusive", "warning", exit_codes.OK, False)
    assert outcomes["retry"][3]
    assert "give it more time" in report.rows[0].remedy


def test_what_files_say_is_judged_without_a_measurement(tmp_path, write_net):
    write_net(tmp_path / "before.onnx")
    write_net(tmp_path / "now.onnx", padding=100_000)
    limits = {"slower": None, "more_memory": None, "macs": 11, "parameters": "1M", "file_mb": 0.05}
    document = {"models": [{"model": "now.onnx", "baseline": "before.onnx", "limits": limits}]}
    report = check(CheckFile.model_validate(document), tmp_path / "deploy-check.yaml")
    assert verdicts(report) == {
        ("now", "larger_file"): "broken",
        ("now", "file_mb"): "broken",
        ("now", "macs"): "broken",
        ("now", "parameters"): "kept",
    }
    assert report.results == {}
    larger = next(row for row in report.rows if row.limit == "larger_file")
    assert "larger" in larger.reason
    assert larger.file.endswith("now.onnx")


def test_a_broken_model_is_a_row_and_the_others_are_judged(job, tmp_path):
    (tmp_path / "broken.onnx").write_bytes(b"no network")
    models = [{"model": "broken.onnx", "limits": {"p50_ms": 6}}, {"model": "now.onnx", "limits": {"p50_ms": 6}}]
    report = job({"now": 5.0}, {"models": models})
    assert verdicts(report) == {("broken", "p50_ms"): "failed", ("now", "p50_ms"): "kept"}
    assert report.exit_code == exit_codes.USAGE
    assert "not an ONNX file" in report.rows[0].reason


def test_the_report_is_read_back_as_it_was(job, tmp_path):
    report = job({"before": 5.0, "now": 5.0}, {"models": [PAIR]})
    report.save(tmp_path / "check.json")
    assert load_check(tmp_path / "check.json") == report
    assert report.results["now"].comparisons[0].verdict == "equivalent"


def test_advice_names_keys_of_the_check_file(job):
    models = [
        {"model": "now.onnx", "name": "sizes", "shapes": {"zz": [1]}, "limits": {"p50_ms": 6}},
        {"model": "now.onnx", "name": "types", "backends": "ort", "precision": "int8", "limits": {"p50_ms": 6}},
    ]
    rows = job({"now": 5.0}, {"models": models}, budget_s=4).rows
    assert "shapes names an unknown input 'zz'" in rows[0].reason
    assert "set precision: fp32" in rows[1].reason


def test_what_cannot_be_compared_is_a_row_and_the_others_are_judged(job, tmp_path, write_net):
    write_net(tmp_path / "two.onnx", batch=2)
    models = [
        {"model": "two.onnx", "baseline": "before.onnx", "limits": {"larger_file": None}},
        PAIR,
    ]
    report = job({"before": 5.0, "now": 5.0}, {"models": models})
    assert verdicts(report) == {
        ("two", "slower"): "failed",
        ("two", "more_memory"): "failed",
        ("now", "slower"): "kept",
    }
    assert "batch differs" in report.rows[0].reason
    assert report.exit_code == exit_codes.USAGE


class Broken(SimulatedMachine):
    """One of the models does not run."""

    which, reason, kind = "now", "the process was killed by signal 9", "WorkerError"

    def launch(self, spec, **settings):
        if spec.label == self.which:
            raise WorkerError(self.reason, self.kind)
        return super().launch(spec, **settings)


class Wrong(Broken):
    reason, kind = "wrong answers: output 'y' differs", "WrongAnswersError"


class BrokenBefore(Broken):
    which = "before"


def test_wrong_answers_are_one_row_however_often_a_model_was_measured(job):
    limits = {"larger_file": None, "more_memory": None, "p50_ms": 9}
    report = job({"before": 5.0, "now": 5.0}, {"models": [{**PAIR, "limits": limits}]}, kind=Wrong)
    assert [row.limit for row in report.rows if row.verdict == "broken"] == ["answers"]
    wanted = [("answers", "broken"), ("slower", "failed"), ("p50_ms", "failed")]
    assert [(row.limit, row.verdict) for row in report.rows] == wanted
    assert report.exit_code == exit_codes.WRONG_ANSWERS


def test_a_model_whose_baseline_does_not_run_keeps_what_stands_for_itself(job):
    limits = {"larger_file": None, "more_memory": "3 %", "load_ms": 1000, "memory_mb": 1}
    report = job({"before": 5.0, "now": 5.0}, {"models": [{**PAIR, "limits": limits}]}, kind=BrokenBefore)
    assert verdicts(report) == {
        ("now", "slower"): "failed",
        ("now", "more_memory"): "failed",
        ("now", "load_ms"): "kept",
        ("now", "memory_mb"): "kept",
    }
    assert report.exit_code == exit_codes.USAGE


@pytest.mark.parametrize("kind", [SimulatedMachine, Broken, Wrong, BrokenBefore])
def test_whatever_came_out_of_it_is_told_everywhere(job, tmp_path, kind):
    limits = {"p50_ms": 9, "p99_ms": 9, "load_ms": 1000, "throughput_per_s": 1, "macs": 3, "file_mb": 1}
    models = [{**PAIR, "limits": limits}, {"model": "now.onnx", "name": "alone", "limits": {"p50_ms": 3}}]
    report = job({"before": 5.0, "now": 5.2}, {"models": models}, kind=kind, budget_s=60)
    for name in FORMATS:
        assert write_format(report, name, environment={})
    assert check_page(report).count("alone on null, 1 thread")
    assert add_report(tmp_path / "history.sqlite", report)
    assert as_json(document_of_check(report))
    report.save(tmp_path / "check.json")
    assert load_check(tmp_path / "check.json") == report


def test_the_accuracy_is_kept_with_the_models_whichever_limit_asked_for_it(job, tmp_path, write_net, monkeypatch):
    np.savez(tmp_path / "data.npz", x=np.zeros((4, 4), np.float32), labels=np.zeros(4, int))
    accuracy = {"before": Scored(0.75, 4), "now": Scored(0.5, 4)}
    monkeypatch.setattr("deploy.ci.job.scored_or_why", lambda model, *_: accuracy[model.stem])
    limits = {"larger_file": None, "more_memory": None, "accuracy": {"data": "data.npz", "max_drop": "1 %"}}
    report = job({"before": 5.0, "now": 5.0}, {"models": [{**PAIR, "limits": limits}]})
    assert verdicts(report)["now", "accuracy.max_drop"] == "broken"
    assert [row.backend_scores for row in report.results["now"].models] == [{"null": 0.75}, {"null": 0.5}]
    kept = {one.key.model: one.value for one in run_of_report(report).points if one.key.metric == "accuracy"}
    assert kept == {"now (baseline)": 0.75, "now": 0.5}
