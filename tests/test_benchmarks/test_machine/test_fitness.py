"""Mere company is a doubt; what no procedure repairs makes the machine unfit; nothing is said of what is not known."""

from __future__ import annotations

import subprocess
import sys

import pytest

from benchmarks.errors import NotComparableError
from benchmarks.machine.fitness import judge_fitness
from benchmarks.machine.interference import NoiseWatch
from benchmarks.machine.probe import Calibration, Probe, ProbeResult, ProbeSamples, calibrate
from benchmarks.records.measurement import Fitness
from benchmarks.records.noise import Noise

BEST = Calibration(work="w", spin_ns=100, gemm_ns=100)


def noise(**seen):
    return Noise(**{"duration_ns": 10 * 10**9, "cores": (0, 1), "physical_cores": 2, **seen})


def probe(spin=(100,) * 10, gemm=(100,) * 10):
    def samples(calls):
        return ProbeSamples(calls_ns=tuple(calls), cpu_ns=sum(calls))

    return ProbeResult(work="w", spin=samples(spin), gemm=samples(gemm))


QUIET = {
    "steal_fraction": 0.0,
    "others_fraction": 0.02,
    "cpu_pressure": 0.01,
    "io_pressure": 0.0,
    "memory_pressure": 0.0,
    "involuntary_switches": 20,
    "waited_ns": 10**7,
    "cpu_ns": 9 * 10**9,
    "runnable_max": 1,
    "frequency_min_khz": 800_000,
    "frequency_max_khz": 3_000_000,
    "frequency_limit_khz": 3_600_000,
    "throttled_events": 0,
    "cooling": False,
    "quota_cores": 2.0,
    "quota_periods": 100,
    "quota_throttled_periods": 0,
    "swapped_in_bytes": 0,
    "swapped_out_bytes": 0,
}


def test_a_quiet_machine_is_fit():
    fitness = judge_fitness(noise(**QUIET), [probe(), probe([104] * 10)], BEST, threads=2)
    assert (fitness.verdict, fitness.reasons) == ("fit", ())


def test_what_is_not_known_is_not_held_against_it():
    assert judge_fitness(noise()).verdict == "fit"


@pytest.mark.parametrize(
    ("seen", "threads", "words"),
    [
        ({"steal_fraction": 0.25}, 1, "took 25 %"),
        ({"quota_periods": 50, "quota_throttled_periods": 6}, 1, "12 % of the periods"),
        ({"quota_cores": 1.5}, 2, "quota of 1.5 cores"),
        ({"memory_pressure": 0.3}, 1, "memory 30 %"),
        ({"swapped_in_bytes": 20 * 2**20}, 1, "2.1 MB/s"),
    ],
)
def test_unfit(seen, threads, words):
    fitness = judge_fitness(noise(**QUIET | seen), threads=threads)
    assert fitness.verdict == "unfit"
    (reason,) = fitness.reasons
    assert words in reason.words


@pytest.mark.parametrize(
    ("seen", "threads", "words"),
    [
        ({"steal_fraction": 0.1}, 1, "took 10 %"),
        ({"others_fraction": 0.5}, 1, "used 50 %"),
        ({"others_fraction": 1.0}, 1, "used 100 %"),
        ({"quota_periods": 50, "quota_throttled_periods": 1}, 1, "2.0 % of the periods"),
        ({"siblings_busy_fraction": 0.4}, 1, "40 %"),
        ({"physical_cores": 1}, 2, "2 threads share 1 physical core (SMT)"),
        ({"quota_cores": None}, 3, "3 threads on 2 cores"),
        ({"cpu_pressure": 0.7}, 1, "waited for a CPU 70 % of the time (PSI)"),
        ({"io_pressure": 0.2}, 1, "disk 20 %"),
        ({"memory_pressure": 0.05}, 1, "memory 5 %"),
        ({"waited_ns": 10**9, "cpu_ns": 9 * 10**9}, 1, "10 % of their time"),
        ({"involuntary_switches": 1800}, 1, "preempted 200 times per second"),
        ({"throttled_events": 3}, 1, "3 times because of heat"),
        ({"cooling": True}, 1, "heat"),
        ({"frequency_max_khz": 1_800_000}, 1, "1.80 GHz, 50 %"),
        ({"swapped_out_bytes": 10**6}, 1, "1.0 MB"),
    ],
)
def test_doubtful_but_not_unfit(seen, threads, words):
    fitness = judge_fitness(noise(**QUIET | seen), threads=threads)
    assert fitness.verdict == "doubtful"
    (reason,) = fitness.reasons
    assert words in str(reason)


def test_a_probe_at_half_speed_is_doubtful_and_at_a_third_unfit():
    # A busy neighbour on the very same core doubles; comparisons must go on then.
    assert judge_fitness(noise(), [probe([220] * 10)] * 3, BEST).verdict == "doubtful"
    unfit = judge_fitness(noise(), [probe([300] * 10)] * 3, BEST)
    assert unfit.verdict == "unfit"
    assert "ran 3.0x slower than" in str(unfit.reasons[0])


def test_one_bad_moment_among_probes_is_no_verdict():
    probes = [probe(), probe(gemm=[100] * 10 + [10_000]), probe()]
    assert judge_fitness(noise(), probes, BEST).verdict == "fit"


def test_uneven_and_drifting_probes_are_doubtful_without_a_calibration():
    uneven = judge_fitness(noise(), [probe([100] * 8 + [490] * 2)] * 2)
    assert [str(reason) for reason in uneven.reasons] == [
        "the probe's slowest tenth took 4.9 times its median or longer"
    ]
    drifting = judge_fitness(noise(), [probe(), probe([130] * 10)])
    assert [str(reason) for reason in drifting.reasons] == ["the core's own speed changed by 30 % between the probes"]


def test_grave_reasons_come_first_and_nothing_is_said_twice():
    fitness = judge_fitness(noise(steal_fraction=0.5, others_fraction=0.5), [probe([300] * 10)], BEST)
    assert [reason.severity for reason in fitness.reasons] == ["unfit", "unfit", "doubtful"]
    assert Fitness.model_validate_json(fitness.model_dump_json()) == fitness


def test_a_foreign_calibration_is_refused():
    with pytest.raises(NotComparableError):
        judge_fitness(noise(), [probe()], BEST.model_copy(update={"work": "another Python"}))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_loaded_core_here_is_seen():
    watch = NoiseWatch()
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy, Probe() as real:
        try:
            watch.start()
            probes = [real.run() for _ in range(6)]
            fitness = judge_fitness(watch.finish(), probes, calibrate(probes))
        finally:
            busy.kill()
    assert fitness.verdict != "fit"
    assert any("other processes used" in str(reason) for reason in fitness.reasons)
