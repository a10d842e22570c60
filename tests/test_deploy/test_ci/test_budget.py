"""Who gets the time of a job: what is in doubt, whichever limit it is; waiting and unfit machines do not use it up."""

from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.records.measurement import Fitness, Memory, Reason
from benchmarks.settings import Settings
from benchmarks.validation.simulated_machine import Service, SimulatedMachine
from deploy import exit_codes
from deploy.ci.check_file import Limits
from deploy.ci.finding import Asked
from deploy.ci.measuring import AloneTask, Terms
from deploy.results.bench_grid import Grid

PAIR = {"model": "now.onnx", "baseline": "before.onnx", "limits": {"larger_file": None, "more_memory": None}}
SAME = {"before": 5.0, "now": 5.0}


class Taken(SimulatedMachine):
    """Somebody else measures for ten minutes before each measurement of ours."""

    @contextmanager
    def measuring(self, purpose, say):
        say("waiting for pid 1 of somebody")
        self.now_ns += 600 * 10**9
        with super().measuring(purpose, say) as observer:
            yield observer


class Remembering(SimulatedMachine):
    """Processes whose peak memory differs from one to the next; the model `now` takes 3 % more."""

    def __init__(self, services, **settings):
        super().__init__(services, **settings)
        self.memory = np.random.default_rng(0)

    def launch(self, spec, **settings):
        process = super().launch(spec, **settings)
        more = 1.03 if spec.label == "now" else 1.0
        peak = round(1e8 * more * math.exp(0.012 * float(self.memory.standard_normal())))
        end = process.finish
        process.finish = lambda: replace(end(), memory=Memory(baseline_bytes=1, peak_bytes=peak))
        return process


class _Observer:
    def __init__(self, observer, fitness):
        self._observer, self._fitness = observer, fitness

    def __getattr__(self, name):
        return getattr(self._observer, name)

    def finish(self, versions, **settings):
        return self._observer.finish(versions, **settings).model_copy(update={"fitness": self._fitness})


def busy(n):
    """Return a machine that is not fit during the first `n` measurements."""

    class Busy(SimulatedMachine):
        left = n

        @contextmanager
        def measuring(self, purpose, say):
            reasons = (Reason(severity="unfit", words="somebody took the cores"),) if self.left > 0 else ()
            self.left -= 1
            with super().measuring(purpose, say) as observer:
                yield _Observer(observer, Fitness(reasons=reasons))

    return Busy


def test_waiting_for_another_measurement_does_not_count(job):
    models = [PAIR, {**PAIR, "name": "again"}, {"model": "now.onnx", "name": "alone", "limits": {"p50_ms": 6}}]
    report = job(SAME, {"models": models}, kind=Taken, budget_s=120)
    assert {row.verdict for row in report.rows} == {"kept"}
    assert not report.retried
    assert report.took_s < 120


def test_a_pair_goes_on_while_its_memory_is_in_doubt(job):
    pair = {**PAIR, "limits": {"larger_file": None, "more_memory": "4.5 %", "memory_mb": 104}}
    report = job(SAME, {"models": [pair]}, kind=Remembering, budget_s=300)
    assert {row.limit: row.verdict for row in report.rows} == dict.fromkeys(
        ("slower", "more_memory", "memory_mb"), "kept"
    )
    found = report.results["now"].comparisons[0]
    assert found.speedup.n < len(found.log_ratios), "the speed was decided before"
    assert found.verdict == "equivalent"


def test_a_retry_is_for_what_more_time_can_decide(job):
    """The difference is near the limit: after the last look nothing can be added."""
    latencies = {"before": 5.0, "now": 5.12}
    short = job(latencies, {"models": [PAIR]}, luck=0.05, budget_s=8, seed=1)
    assert short.retried
    long = job(latencies, {"models": [PAIR]}, luck=0.05, budget_s=600, seed=1)
    assert long.rows[0].verdict == "inconclusive"
    assert not long.retried
    assert "choose another limit" in long.rows[0].remedy


@pytest.mark.parametrize(
    ("policy", "n_unfit", "verdict", "outcome", "code"),
    [
        ("fail", 99, "unfit", "failure", exit_codes.UNFIT),
        ("warn", 99, "unfit", "warning", exit_codes.OK),
        ("retry", 99, "unfit", "failure", exit_codes.UNFIT),
        ("retry", 1, "kept", "passed", exit_codes.OK),
    ],
)
def test_an_unfit_machine_is_judged_by_the_policy(job, policy, n_unfit, verdict, outcome, code):
    report = job(SAME, {"models": [PAIR], "unfit": policy}, kind=busy(n_unfit))
    assert [(row.verdict, row.outcome) for row in report.rows] == [(verdict, outcome)]
    assert report.exit_code == code
    assert report.retried == (policy == "retry")
    assert ("somebody took the cores" in report.rows[0].reason) == (verdict == "unfit")


def test_an_unfit_machine_may_be_believed(job):
    report = job(SAME, {"models": [PAIR]}, kind=busy(99), accept_unfit=True)
    assert [row.verdict for row in report.rows] == ["kept"]
    assert not report.retried


def test_the_end_of_a_share_is_no_look(tmp_path, write_net):
    machine = SimulatedMachine({"now": Service(median_ns=5e6, sigma=0.02)}, seed=0)
    [[spec]] = Grid(backends=["null"], threads=(1,)).specs({"now": write_net(tmp_path / "now.onnx")})
    terms = Terms(Settings(), 1, lambda _: None, launch=machine.launch, machine=machine)
    asked = Asked("now", "now.onnx", Limits(p90_ms=10))
    task = AloneTask(asked=asked, candidate=spec, batch=1, terms=terms)
    assert task.go_on(5)
    assert [one.verdict for one in task.findings] == ["kept"]
    assert task.open, "it was not looked at as planned"
    assert task.go_on(100)
    assert not task.open
    assert len(task.measured.trials) == task.analyses.schedule[0][0]


def test_what_was_measured_so_far_is_told_after_each_measurement(job):
    models = [PAIR, {"model": "now.onnx", "name": "alone", "limits": {"p50_ms": 6}}]
    told = []
    report = job(SAME, {"models": models}, so_far=told.append)
    assert len(told) == 2
    assert [(row.model, row.verdict) for row in told[0].rows] == [("now", "kept"), ("alone", "failed")]
    assert told[0].rows[1].reason == "the job ended before this was measured"
    assert told[0].results.keys() == {"now"}
    assert told[1].rows == report.rows
    assert told[0].exit_code == exit_codes.USAGE


def test_what_is_lost_by_a_job_that_is_ended_is_one_measurement(job, monkeypatch):
    kept = []
    go_on = AloneTask.go_on

    def ended(task, budget_s):
        if kept:
            raise KeyboardInterrupt
        return go_on(task, budget_s)

    monkeypatch.setattr(AloneTask, "go_on", ended)
    models = [{"model": "now.onnx", "name": name, "limits": {"p50_ms": 6}} for name in ("one", "two")]
    with pytest.raises(KeyboardInterrupt):
        job(SAME, {"models": models}, so_far=kept.append)
    assert [row.verdict for row in kept[-1].rows] == ["kept", "failed"]
