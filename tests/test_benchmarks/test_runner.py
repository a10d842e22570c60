"""Who is measured when, and what comes of it, on a simulated machine."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from backends.base import CompileOptions
from backends.errors import ModelLoadError, UnknownBackendError
from benchmarks.answers.reference import Reference
from benchmarks.errors import InputError, NotComparableError, SettingError
from benchmarks.records.measurement import Fitness, Reason
from benchmarks.runner import Settings, compare, measure
from benchmarks.stats.log_ratios import log_ratios

MS = 1e6
MACHINES = {
    "quiet": {"luck": 0.005, "noise": 0.02},
    "noisy": {"luck": 0.015, "noise": 0.1},
    "drifting": {"luck": 0.005, "noise": 0.05, "drift": 0.02},
    "two modes": {"luck": 0.005, "noise": 0.05, "slow_share": 0.2},
}


def simulate(new_world, specs, seed, speedup=1.0, **machine):
    world = new_world(seed=seed, latency_ns={"baseline": 10 * MS * speedup, "candidate": 10 * MS}, **machine)
    return compare(*specs, settings=Settings(seed=seed), launch=world.launch, machine=world)


@pytest.mark.parametrize("n_seeds", [20, pytest.param(60, marks=pytest.mark.slow)])
@pytest.mark.parametrize("machine", MACHINES)
def test_no_difference_gives_no_false_verdict(new_world, specs, machine, n_seeds):
    verdicts = Counter(simulate(new_world, specs, seed, **MACHINES[machine]).verdict for seed in range(n_seeds))
    # 3 % of the procedures hold an interval that misses, and its middle must be 3 % off as well.
    assert verdicts["faster"] + verdicts["slower"] <= n_seeds // 30, verdicts
    if machine in {"quiet", "drifting"}:
        assert verdicts["equivalent"] >= 0.75 * n_seeds, verdicts


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(("speedup", "verdict"), [(1.1, "faster"), (1 / 1.1, "slower")])
def test_ten_percent_are_found(new_world, specs, machine, speedup, verdict):
    found = Counter(simulate(new_world, specs, seed, speedup, **MACHINES[machine]).verdict for seed in range(30))
    assert found[verdict] >= 28, found


@pytest.mark.parametrize("n_seeds", [50, pytest.param(150, marks=pytest.mark.slow)])
def test_the_interval_covers_the_true_speedup_as_often_as_it_says(new_world, specs, n_seeds):
    done = [simulate(new_world, specs, seed, 1.5, **MACHINES["noisy"]).speedup for seed in range(n_seeds)]
    assert all(0.96 < speedup.confidence < 0.98 for speedup in done)
    assert sum(speedup.low <= 1.5 <= speedup.high for speedup in done) >= 0.94 * n_seeds


def test_a_clear_case_ends_early_and_a_close_one_goes_on(new_world, specs):
    clear = simulate(new_world, specs, 1, 2.0, luck=0.01)
    assert (clear.verdict, len(clear.log_ratios)) == ("faster", 8)
    assert clear.ended == "the whole interval is faster, its median by at least 3 %"
    close = [simulate(new_world, specs, seed, 1.03, luck=0.03) for seed in range(10)]
    assert max(len(pair.log_ratios) for pair in close) == 20
    assert {pair.verdict for pair in close if len(pair.log_ratios) == 20} & {"inconclusive"}


@pytest.mark.parametrize("speedup", [1.0, 2.0])
def test_the_budget_ends_a_comparison_with_what_is_known(new_world, specs, speedup):
    world = new_world(latency_ns={"baseline": 10 * MS * speedup, "candidate": 10 * MS}, luck=0.01)
    comparison = compare(*specs, settings=Settings(budget_s=12), launch=world.launch, machine=world)
    n = len(comparison.log_ratios)
    assert 2 <= n < 8
    assert world.now_s() <= 12.5, "a pair may take a little longer than the one before"
    assert comparison.ended.startswith(f"the budget of 12 s ended after {n} pairs")
    assert (comparison.verdict == "faster") == (speedup == 2.0 and n >= 6)
    assert comparison.speedup.low <= speedup <= comparison.speedup.high


def test_a_number_of_pairs_that_was_fixed_is_kept(new_world, specs):
    world = new_world(latency_ns={"baseline": 20 * MS, "candidate": 10 * MS})
    comparison = compare(*specs, settings=Settings(trials=10), launch=world.launch, machine=world)
    assert (comparison.verdict, len(comparison.log_ratios)) == ("faster", 10)
    assert comparison.speedup.confidence == pytest.approx(1 - 2 * (1 + 10) / 2**10)


def test_strict_asks_for_the_whole_interval(new_world, specs):
    found = {}
    for strict in (False, True):
        world = new_world(seed=1, luck=0.03, latency_ns={"baseline": 10.5 * MS, "candidate": 10 * MS})
        settings = Settings(strict=strict, budget_s=600)
        found[strict] = compare(*specs, settings=settings, launch=world.launch, machine=world).verdict
    assert found == {False: "faster", True: "inconclusive"}


def test_the_record_holds_all_that_the_answer_is_derived_from(new_world, specs):
    comparison = simulate(new_world, specs, 1, 1.2)
    assert log_ratios(comparison.candidate.trials, comparison.baseline.trials) == comparison.log_ratios
    assert len(comparison.candidate.trials) == len(comparison.log_ratios) == 8
    assert comparison.speedup.value == pytest.approx(1.2, rel=0.03)
    assert comparison.flop_ratio == 1.0
    assert comparison.realised == comparison.speedup.value
    assert type(comparison).model_validate_json(comparison.model_dump_json()) == comparison


def test_drift_cancels_although_it_is_larger_than_the_effect(new_world, specs):
    world = new_world(
        seed=3, luck=0.0, noise=0.01, drift=0.05, latency_ns={"baseline": 10.5 * MS, "candidate": 10 * MS}
    )
    comparison = compare(*specs, settings=Settings(), launch=world.launch, machine=world)
    assert world.drift * world.now_ns / 1e9 > 0.5, "the machine did not get slower: nothing was shown"
    assert comparison.verdict == "faster"
    assert comparison.speedup.value == pytest.approx(1.05, rel=0.01)
    assert any("moved by" in doubt or "medians differ" in doubt for doubt in comparison.baseline.doubts)


def test_blocks_alternate_in_balanced_random_order(new_world, specs):
    world = new_world(latency_ns={"baseline": 10 * MS, "candidate": 10 * MS})
    compare(*specs, settings=Settings(trials=2), launch=world.launch, machine=world)
    blocks = [label for label, what in world.log if what == "block"]
    rounds = [tuple(blocks[at : at + 2]) for at in range(0, len(blocks), 2)]
    assert len(rounds) == 24
    assert Counter(rounds) == {("baseline", "candidate"): 12, ("candidate", "baseline"): 12}
    assert rounds != sorted(rounds)


def test_the_same_seed_gives_the_same_order(new_world, specs):
    logs = []
    for _ in range(2):
        world = new_world(latency_ns={"baseline": 10 * MS, "candidate": 10 * MS})
        compare(*specs, settings=Settings(seed=5), launch=world.launch, machine=world)
        logs.append(world.log)
    assert logs[0] == logs[1]


@pytest.mark.parametrize("stage", ["load", "warm_up", "block", "finish"])
@pytest.mark.parametrize("survived_trials", [0, 2])
def test_a_failing_model_is_a_row_and_the_other_one_is_measured_to_the_end(new_world, specs, stage, survived_trials):
    steps = survived_trials * (12 if stage == "block" else 1)
    world = new_world(latency_ns={"baseline": 10 * MS, "candidate": 10 * MS}, fail={"candidate": [stage, steps]})
    comparison = compare(*specs, settings=Settings(), launch=world.launch, machine=world)
    assert (comparison.verdict, comparison.speedup, comparison.realised) == ("failed", None, None)
    assert comparison.candidate.failure == f"simulated failure during {stage}"
    assert comparison.candidate.failure_kind == "RunError"
    assert comparison.candidate.trials == ()
    assert comparison.baseline.failure is None
    assert len(comparison.baseline.trials) >= 6
    assert comparison.ended.startswith("candidate failed; baseline alone: p50 is known within")
    assert not world.running, "a process was left behind"


def test_an_interrupt_leaves_no_process(new_world, specs):
    world = new_world(latency_ns={"baseline": 10 * MS, "candidate": 10 * MS})

    def interrupted(message):
        if "trial 2" in message:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare(*specs, launch=world.launch, machine=world, progress=interrupted)
    assert not world.running


def test_one_model_alone(new_world, specs):
    world = new_world(latency_ns={"baseline": 1.0, "candidate": 10 * MS})
    said = []
    measurement = measure(
        specs[0], settings=Settings(trials=3), launch=world.launch, machine=world, progress=said.append
    )
    assert [len(trial.blocks_ns) for trial in measurement.trials] == [12, 12, 12]
    assert [trial.order for trial in measurement.trials] == [0, 1, 2]
    assert said == [f"trial {n} of 3: candidate on null" for n in (1, 2, 3)]
    assert measurement.ended == "the 3 trials asked for were made"
    assert any("3 trials; a 95 % interval" in doubt for doubt in measurement.doubts)
    assert any("not checked" in doubt for doubt in measurement.doubts)
    assert measurement.subject.batch == 1


@pytest.mark.parametrize(("luck", "trials"), [(0.002, 6), (0.2, 30)])
def test_one_model_is_measured_until_its_percentile_is_known(new_world, specs, luck, trials):
    world = new_world(latency_ns={"candidate": MS}, luck=luck)
    measurement = measure(specs[0], launch=world.launch, machine=world)
    assert len(measurement.trials) == trials
    assert measurement.ended.startswith("p50 is known within" if trials == 6 else "p50 is not known within 2.0%")


def test_the_budget_ends_a_single_model_too(new_world, specs):
    world = new_world(latency_ns={"candidate": MS}, luck=0.2)
    measurement = measure(specs[0], settings=Settings(budget_s=5), launch=world.launch, machine=world)
    assert measurement.ended == f"the budget of 5 s ended after {len(measurement.trials)} trials"
    assert world.now_s() <= 5.5, "a trial may take a little longer than the one before"


def test_what_cannot_be_compared_is_refused(new_world, specs):
    candidate, baseline = specs
    world = new_world(latency_ns={"baseline": MS, "candidate": MS})
    launch = world.launch
    with pytest.raises(NotComparableError, match="precision differs: fp32 of the baseline, bf16 of the candidate"):
        compare(replace(candidate, options=CompileOptions(precision="bf16")), baseline, launch=launch)
    with pytest.raises(NotComparableError, match="batch differs: 2 of the baseline, 1 of the candidate"):
        compare(candidate, replace(baseline, batch=2), launch=launch)
    with pytest.raises(SettingError, match="at least 2 trials"):
        compare(candidate, baseline, settings=Settings(trials=1), launch=launch)


def test_mistakes_of_the_caller_are_errors_not_rows(specs, tmp_path):
    with pytest.raises(UnknownBackendError, match="did you mean 'trt'"):
        measure(replace(specs[0], backend="otr"))
    with pytest.raises(ModelLoadError, match="no such file"):
        measure(replace(specs[0], model=tmp_path / "absent.onnx"))
    with pytest.raises(InputError, match="the batch must be at least 1"):
        measure(replace(specs[0], batch=0))


def test_fewer_than_six_pairs_give_an_interval_but_no_verdict(new_world, specs):
    world = new_world(latency_ns={"baseline": 20 * MS, "candidate": 10 * MS})
    comparison = compare(*specs, settings=Settings(trials=4), launch=world.launch, machine=world)
    assert comparison.verdict == "inconclusive"
    assert comparison.speedup.confidence == 0.875
    assert math.isclose(comparison.speedup.value, 2, rel_tol=0.05)


def test_both_models_are_timed_on_the_same_real_inputs(new_world, specs):
    images = np.arange(2 * 3 * 8 * 8, dtype=np.float32).reshape(2, 3, 8, 8)
    reference = Reference(inputs={"x": images}, outputs={"y": np.zeros((2, 5), np.float32)}, source="by hand")
    fed = []

    class Worker:
        def __init__(self, worker):
            self.worker = worker

        def __getattr__(self, name):
            return getattr(self.worker, name)

        def load(self, feeds, others=()):
            fed.append(feeds["x"])
            return self.worker.load(feeds)

        def run(self, feeds):
            return {"y": np.zeros((len(feeds["x"]), 5), np.float32)}

    for given in ({"baseline_reference": reference}, {"candidate_reference": reference}):
        world = new_world(latency_ns={"baseline": MS, "candidate": MS})
        settings = Settings(trials=2, rounds=3)
        compare(
            *specs,
            settings=settings,
            launch=lambda spec, world=world, **k: Worker(world.launch(spec, **k)),
            machine=world,
            **given,
        )
    assert len(fed) == 8
    assert all(np.array_equal(feeds, images[:1]) for feeds in fed)


def test_a_comparison_goes_on_where_it_stopped(new_world, specs):
    world = new_world(seed=0, latency_ns={"baseline": 10.2 * MS, "candidate": 10 * MS}, luck=0.02)
    share = Settings(budget_s=8, provisional=True)
    first = compare(*specs, settings=share, launch=world.launch, machine=world)
    assert first.verdict == "inconclusive"
    more = compare(*specs, settings=share, launch=world.launch, machine=world, earlier=first)
    n = len(first.log_ratios)
    assert more.log_ratios[:n] == first.log_ratios
    assert len(more.log_ratios) > n
    assert more.candidate.trials[:n] == first.candidate.trials
    orders = [trial.order for side in more.sides for trial in side.trials]
    assert sorted(orders) == list(range(len(orders)))
    assert more.candidate.budget_s == 16
    assert more.baseline.started_utc == first.baseline.started_utc


def test_what_spoke_against_the_machine_still_does_when_it_goes_on(new_world, specs):
    world = new_world(seed=0, latency_ns={"baseline": 10 * MS, "candidate": 10 * MS}, luck=0.02)
    share = Settings(budget_s=8, provisional=True)
    world.fitness = Fitness(reasons=(Reason(severity="unfit", words="busy"),))
    first = compare(*specs, settings=share, launch=world.launch, machine=world)
    world.fitness = Fitness(reasons=(Reason(severity="doubtful", words="warm"),))
    more = compare(*specs, settings=share, launch=world.launch, machine=world, earlier=first)
    assert [reason.words for reason in more.candidate.fitness.reasons] == ["busy", "warm"]
    assert more.unfit


def test_pairs_that_something_else_wants_change_no_verdict(new_world, specs):
    def found(**settings):
        world = new_world(seed=0, latency_ns={"baseline": 10 * MS, "candidate": 12 * MS}, luck=0.005)
        return compare(*specs, launch=world.launch, machine=world, **settings)

    first, more = found(), found(wanted=lambda before, after: len(before) == len(after) < 15)
    assert len(first.log_ratios) < len(more.log_ratios) == 15
    assert more.log_ratios[: len(first.log_ratios)] == first.log_ratios
    assert more.verdict == first.verdict == "slower"
    assert more.speedup == first.speedup
    for_ever = found(wanted=lambda *_: True, settings=Settings(budget_s=30))
    assert for_ever.candidate.trials, "the budget ends it"


def test_another_subject_is_no_earlier_one(new_world, specs):
    candidate, baseline = specs
    world = new_world(seed=0, latency_ns={"baseline": 10 * MS, "candidate": 10 * MS})
    first = compare(candidate, baseline, settings=Settings(trials=2), launch=world.launch, machine=world)
    other = replace(candidate, options=CompileOptions(threads=2))
    with pytest.raises(NotComparableError, match="measure again"):
        compare(other, baseline, settings=Settings(trials=4), launch=world.launch, machine=world, earlier=first)


def test_one_model_is_measured_until_somebody_has_enough_and_goes_on(new_world, specs):
    world = new_world(seed=0, latency_ns={"candidate": 10 * MS})

    def until(n):
        return lambda trials, spent: "enough" if len(trials) >= n else None

    first = measure(specs[0], launch=world.launch, machine=world, until=until(3))
    assert (len(first.trials), first.ended) == (3, "enough")
    more = measure(specs[0], launch=world.launch, machine=world, until=until(5), earlier=first)
    assert more.trials[:3] == first.trials
    assert len(more.trials) == 5
