"""Simulated machines do what they say: what is judged on them is judged by known facts."""

from __future__ import annotations

import math
from itertools import pairwise
from statistics import fmean, median, pstdev

import numpy as np
import pytest

from benchmarks.errors import SettingError, WorkerError
from benchmarks.process.warmup import WarmUpLimits
from benchmarks.runner import Settings, compare, measure
from benchmarks.subject.subject import SubjectSpec
from benchmarks.validation.naive import naive_verdict
from benchmarks.validation.simulated_machine import Service, SimulatedMachine, Weather

MS = 1e6


def sample(n=4000, seed=0, start_ns=0, **service):
    return Service(median_ns=10 * MS, **service).sample(np.random.default_rng(seed), n, start_ns)


def logs(samples):
    return [math.log(ns) for ns in samples]


def correlation(values):
    centre = fmean(values)
    return fmean((a - centre) * (b - centre) for a, b in pairwise(values)) / pstdev(values) ** 2


def test_a_constant_service_is_constant():
    assert set(sample(20)) == {10_000_000}


def test_a_log_normal_service_has_the_median_and_the_spread_it_was_given():
    samples = sample(sigma=0.2)
    assert median(samples) == pytest.approx(10 * MS, rel=0.02)
    assert pstdev(logs(samples)) == pytest.approx(0.2, rel=0.05)
    assert abs(correlation(logs(samples))) < 0.05


def test_an_autocorrelated_service_remembers_and_has_the_same_spread():
    samples = sample(40_000, sigma=0.2, correlation=0.9)
    assert correlation(logs(samples)) == pytest.approx(0.9, abs=0.02)
    assert pstdev(logs(samples)) == pytest.approx(0.2, rel=0.1)


def test_it_remembers_from_block_to_block():
    spec, machine = one_machine(sigma=0.2, correlation=0.99)
    process = machine.launch(spec, timeout_s=1)
    ends = [process.block(5, 0) for _ in range(2000)]
    across = [(math.log(one[-1]), math.log(next_[0])) for one, next_ in pairwise(ends)]
    assert np.corrcoef(np.transpose(across))[0, 1] > 0.95


def test_a_bimodal_service_has_two_modes_of_the_size_asked():
    samples = sample(slow_share=0.2, slow_factor=4)
    assert set(samples) == {10_000_000, 40_000_000}
    assert samples.count(40_000_000) / len(samples) == pytest.approx(0.2, abs=0.03)


def test_a_drifting_service_gets_slower_with_its_age():
    assert sample(1, start_ns=0, drift_per_s=0.1) == [10_000_000]
    assert sample(1, start_ns=5_000_000_000, drift_per_s=0.1) == [15_000_000]
    samples = sample(100, drift_per_s=0.1)
    assert all(earlier < later for earlier, later in pairwise(samples))


def test_a_throttled_service_steps_at_its_time():
    samples = sample(60, throttled_after_s=0.5, throttled_factor=2)
    assert samples == [10_000_000] * 50 + [20_000_000] * 10


@pytest.mark.parametrize(
    "service",
    [
        {"median_ns": 0},
        {"median_ns": 1, "sigma": -1},
        {"median_ns": 1, "correlation": 1},
        {"median_ns": 1, "slow_share": 2},
    ],
)
def test_a_service_that_cannot_be_is_refused(service):
    with pytest.raises(SettingError):
        Service(**service)


def test_weather_that_cannot_be_is_refused():
    with pytest.raises(SettingError):
        Weather(time_constant_s=0)


def one_machine(seed=0, luck=0.0, weather=None, hand_over_ns=0, start_ns=0, **service):
    machine = SimulatedMachine(
        {"a": Service(median_ns=10 * MS, **service)},
        seed=seed,
        luck=luck,
        weather=weather,
        hand_over_ns=hand_over_ns,
        start_ns=start_ns,
    )
    return SubjectSpec(model="none.onnx", label="a", backend="null"), machine


def test_each_process_has_a_luck_of_its_own_and_keeps_it():
    spec, machine = one_machine(luck=0.05)
    processes = [machine.launch(spec, timeout_s=1) for _ in range(2000)]
    speeds = [process.block(1, 0)[0] for process in processes]
    assert pstdev(logs(speeds)) == pytest.approx(0.05, rel=0.1)
    assert [process.block(1, 0)[0] for process in processes[:50]] == speeds[:50]


def test_the_call_after_a_rest_pays_for_the_hand_over_and_no_other_does():
    spec, machine = one_machine(hand_over_ns=700_000)
    process = machine.launch(spec, timeout_s=1)
    process.rest()
    process.wake()
    assert process.block(3, 0) == (10_700_000, 10_000_000, 10_000_000)
    process.rest()
    process.wake()
    assert process.block(2, 1) == (10_000_000, 10_000_000)


def test_the_clock_goes_on_by_every_call_and_every_start():
    spec, machine = one_machine(start_ns=400_000_000)
    process = machine.launch(spec, timeout_s=1)
    process.load({})
    warm = process.warm_up(WarmUpLimits())
    process.block(4, 2)
    assert warm.latency_ns == 10_000_000
    assert machine.now_ns == 400_000_000 + (warm.n_calls + 6) * 10_000_000


def test_both_processes_of_a_pair_have_the_same_weather_and_it_moves():
    weather = Weather(sigma=0.1, time_constant_s=1.0)
    spec, machine = one_machine(weather=weather)
    processes = [machine.launch(spec, timeout_s=1) for _ in range(2)]
    rounds = [[math.log(process.block(1, 0)[0]) for process in processes] for _ in range(5000)]
    first, second = np.transpose(rounds)
    assert np.std(first) == pytest.approx(0.1, rel=0.25)
    assert np.std(first - second) < 0.02, "what is 10 ms apart has nearly the same weather"
    far = first[:-100] - first[100:]
    assert np.std(far) > 0.1, "what is 2 s apart has another"


def test_the_weather_depends_on_the_seed_alone():
    def at(seed):
        machine = one_machine(seed=seed, weather=Weather(sigma=0.1))[1]
        return [machine.weather_at(second * 10**9) for second in range(20)]

    _, disturbed = one_machine(seed=1, weather=Weather(sigma=0.1), luck=0.3, sigma=0.2)
    disturbed.launch(SubjectSpec(model="none.onnx", label="a", backend="null"), timeout_s=1).block(50, 0)
    assert [disturbed.weather_at(second * 10**9) for second in range(20)] == at(1)
    assert at(1) != at(2)


def test_bursts_come_as_often_and_last_as_long_as_asked():
    weather = Weather(bursts_per_s=0.1, burst_s=0.5, burst_factor=1.5)
    machine = one_machine(weather=weather)[1]
    factors = [machine.weather_at(tick * 5_000_000) for tick in range(400_000)]
    assert set(factors) == {1.0, 1.5}
    assert factors.count(1.5) / len(factors) == pytest.approx(1 - math.exp(-0.05), rel=0.25)
    starts = sum(a < b for a, b in pairwise(factors))
    assert starts / 2000 == pytest.approx(0.1, rel=0.2)


def test_a_burst_outlasts_what_is_foreseen_at_a_time():
    weather = Weather(bursts_per_s=0.002, burst_s=100, burst_factor=1.5)
    machine = one_machine(weather=weather)[1]
    factors = [machine.weather_at(second * 10**9) for second in range(20_000)]
    assert factors.count(1.5) / len(factors) == pytest.approx(1 - math.exp(-0.2), rel=0.35)
    starts = sum(a < b for a, b in pairwise(factors))
    assert factors.count(1.5) / starts == pytest.approx(110, rel=0.4), "seconds of a burst, some of them overlapping"


def test_a_process_ages_from_its_start():
    spec, machine = one_machine(drift_per_s=0.1, start_ns=1_000_000_000)
    first = machine.launch(spec, timeout_s=1)
    first.load({})
    assert first.block(1, 0) == (11_000_000,)
    younger = machine.launch(spec, timeout_s=1)
    assert younger.block(1, 0) == (10_000_000,)


def test_cpu_time_leaves_the_weather_out():
    spec, machine = one_machine(weather=Weather(bursts_per_s=1e9, burst_factor=2.0))
    process = machine.launch(spec, timeout_s=1)
    assert sum(process.block(10, 3)) == 200_000_000
    assert process.finish().cpu_ns == 100_000_000


def test_the_runner_measures_simulated_processes(conv_model):
    machine = SimulatedMachine({"a": Service(median_ns=2 * MS)}, seed=0)
    spec = SubjectSpec(model=conv_model, label="a", backend="null")
    measurement = measure(spec, settings=Settings(trials=2), launch=machine.launch, machine=machine)
    assert measurement.failure is None
    assert {ns for trial in measurement.trials for ns in trial.calls_ns} == {2_000_000}


def test_the_runner_compares_simulated_processes(specs):
    services = {"candidate": Service(median_ns=4 * MS), "baseline": Service(median_ns=5 * MS)}
    comparison = compare(
        *specs, settings=Settings(), launch=(world := SimulatedMachine(services, seed=0)).launch, machine=world
    )
    assert comparison.verdict == "faster"
    assert comparison.speedup.value == pytest.approx(1.25)


def test_there_are_no_answers_and_no_unknown_models():
    spec, machine = one_machine()
    with pytest.raises(WorkerError, match="no answers to x"):
        machine.launch(spec, timeout_s=1).run({"x": np.zeros(1)})
    with pytest.raises(SettingError, match=r"'b'; there are a"):
        machine.launch(SubjectSpec(model="none.onnx", label="b", backend="null"), timeout_s=1)


def test_the_naive_procedure_flags_medians_that_differ_by_more_than_its_threshold():
    assert naive_verdict([100] * 50, [106] * 50) == "slower"
    assert naive_verdict([100] * 50, [94] * 50) == "faster"
    assert naive_verdict([100] * 50, [105] * 50) == "same"
    assert naive_verdict([100] * 50, [100] * 30 + [900] * 20) == "same"
    assert naive_verdict([100] * 50, [102] * 50, 0.01) == "slower"
    with pytest.raises(SettingError):
        naive_verdict([], [1])
