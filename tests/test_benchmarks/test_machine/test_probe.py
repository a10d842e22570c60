"""The probe times fixed work, tells a slow core from a missing one, and ends with its parent."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.errors import NotComparableError, WorkerError
from benchmarks.machine.affinity import allowed_cores
from benchmarks.machine.probe import Calibration, Probe, ProbeResult, ProbeSamples, calibrate, measure

ROOT = Path(__file__).parents[3]


def result(spin, gemm=(100,) * 10, work="w", cpu_ns=None):
    def samples(calls):
        return ProbeSamples(calls_ns=calls, cpu_ns=sum(calls) if cpu_ns is None else cpu_ns)

    return ProbeResult(work=work, spin=samples(tuple(spin)), gemm=samples(tuple(gemm)))


BEST = Calibration(work="w", spin_ns=100, gemm_ns=100)


def test_even_work_at_full_speed_is_neither_slow_nor_uneven():
    probe = result([100] * 20)
    assert (probe.jitter, probe.slowdown(BEST)) == (1.0, 1.0)


def test_rare_long_interruptions_are_felt_and_are_not_jitter():
    probe = result([100] * 19 + [2100])
    assert probe.slowdown(BEST) == pytest.approx(2.0)
    assert probe.jitter == 1.0


def test_jitter_is_the_ninetieth_percentile_over_the_median_even_of_few_samples():
    assert result([100] * 9 + [300]).jitter == 1.0
    assert result([100] * 8 + [300] * 2).jitter == 3.0
    assert result([100]).jitter == 1.0


def test_the_worse_of_both_works_counts():
    assert result([100] * 20, [300] * 20).slowdown(BEST) == 3.0
    assert result([300] * 20, [100] * 20).slowdown(BEST) == 3.0
    assert result([100] * 20, [100] * 16 + [500] * 4).jitter == 5.0


def test_a_calibration_keeps_the_best_ever_seen():
    first = calibrate([result([120, 110, 130]), result([140, 105], [90, 95])])
    assert (first.spin_ns, first.gemm_ns) == (105, 90)
    second = calibrate([result([100, 200], [95, 99])], first)
    assert (second.spin_ns, second.gemm_ns) == (100, 90)
    assert calibrate([result([500], [500])], second) == second
    assert Calibration.model_validate_json(second.model_dump_json()) == second


def test_other_work_is_not_compared():
    other = Calibration(work="another Python", spin_ns=1, gemm_ns=1)
    with pytest.raises(NotComparableError, match="another Python"):
        result([100]).slowdown(other)
    assert calibrate([result([100])], other).spin_ns == 100, "an old calibration of other work was kept"
    with pytest.raises(NotComparableError):
        calibrate([])
    with pytest.raises(NotComparableError):
        calibrate([result([100]), result([100], work="v")])


def test_measuring_counts_all_time_after_the_warm_up():
    # Each reading of this clock takes 1 ns and each call 9: nothing may fall between two calls.
    now = itertools.count()
    ticks = [0]

    def clock():
        ticks[0] += 1
        return ticks[0]

    def call():
        next(now)
        ticks[0] += 9

    samples = measure(call, 1000, clock, lambda: 7)
    assert set(samples.calls_ns) == {10}
    assert 85 <= len(samples.calls_ns) <= 90, "the first tenth is not to be counted"
    assert samples.cpu_ns == 0


def test_slow_machines_still_give_a_percentile():
    ticks = [0]

    def call():
        ticks[0] += 10**9

    assert len(measure(call, 1000, lambda: ticks[0]).calls_ns) == 10


def test_this_machine_can_be_probed_again_and_again():
    with Probe() as probe:
        probes = [probe.run(20_000_000) for _ in range(3)]
        pid = probe.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    best = calibrate(probes)
    for one in probes:
        assert len(one.spin.calls_ns) >= 10
        assert len(one.gemm.calls_ns) >= 10
        assert one.jitter >= 1
        assert one.slowdown(best) >= 1
        assert ProbeResult.model_validate_json(one.model_dump_json()) == one
    probe.close()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_between_two_questions_it_uses_nothing_and_one_thread(monkeypatch):
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(name, "2")
    core = allowed_cores()[0]
    with Probe([core]) as probe:
        probe.run(1_000_000)
        folder = Path(f"/proc/{probe.pid}")

        def cpu_ticks():
            return sum(int(value) for value in (folder / "stat").read_text().rsplit(")", 1)[1].split()[11:13])

        before = cpu_ticks()
        time.sleep(0.3)
        assert cpu_ticks() - before <= 1
        assert len(list((folder / "task").iterdir())) == 1, "a matrix product on several threads is another work"
        assert allowed_cores(probe.pid) == (core,)


def test_impossible_cores_are_said():
    with Probe([4000]) as probe, pytest.raises(WorkerError, match="core 4000 cannot be used here"):
        probe.run()


def test_a_dead_or_silent_probe_is_an_error_in_one_line():
    with Probe() as probe:
        probe.run(1_000_000)
        os.kill(probe.pid, signal.SIGKILL)
        with pytest.raises(WorkerError, match="the probe of the machine: its process was killed by SIGKILL"):
            probe.run()
    with Probe(timeout_s=0.2) as probe, pytest.raises(WorkerError, match=r"no answer to 'probe' in 0\.2 s"):
        probe.run(30_000_000_000)


def test_it_ends_with_its_parent():
    code = """
import os, signal
from benchmarks.machine.probe import Probe
probe = Probe()
probe.run(1_000_000)
print(probe.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    pid = int(done.stdout)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        state = Path(f"/proc/{pid}/stat")
        if state.exists() and ") Z " in state.read_text():
            return  # ended; whoever inherited it has not looked yet
        time.sleep(0.05)
    os.kill(pid, signal.SIGKILL)
    pytest.fail("the probe outlives its parent")
