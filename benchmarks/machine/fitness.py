"""Judge whether measurements on this machine at this time can be trusted: pure functions of the observations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median

from benchmarks.machine.probe import Calibration, ProbeResult
from benchmarks.records.measurement import Fitness, Reason
from benchmarks.records.noise import Noise

__all__ = ["judge_fitness"]

# Unfit: no procedure can correct for it. One loaded core of two must stay below: interleaved pairs still work then.
# One busy process on the same core doubles the probe's time (2.0 to 2.3 measured); beyond that, there is more.
_SLOWDOWN_UNFIT = 2.5
# If a group is throttled in more than a tenth of the periods, its quota is measured, not its processor.
_THROTTLED_UNFIT = 0.10
# With a fifth of the time taken by the hypervisor, the processor's speed changes from one second to the next.
_STEAL_UNFIT = 0.20
# With a fifth of the time spent waiting for memory held by others, the disk is timed.
_MEMORY_PRESSURE_UNFIT = 0.20
# Pages read back from swap at this rate belong to running programs.
_SWAP_IN_UNFIT_BYTES_PER_S = 1 << 20

# Doubtful: single measurements suffer, interleaved pairs do not.
# An idle machine repeats the probe within 6 % of its best; clock changes of modern processors are about 20 %.
_SLOWDOWN_DOUBTFUL = 1.25
_JITTER_DOUBTFUL = 1.5
_DRIFT_DOUBTFUL = 1.10
_STEAL_DOUBTFUL = 0.02
_OTHERS_DOUBTFUL = 0.10
_SIBLINGS_DOUBTFUL = 0.10
_CPU_PRESSURE_DOUBTFUL = 0.20
_IO_PRESSURE_DOUBTFUL = 0.10
_MEMORY_PRESSURE_DOUBTFUL = 0.01
# The measured threads wait a little at each hand-over; beyond this they wait for other processes.
_WAITED_DOUBTFUL = 0.05
# The scheduler itself takes a core away about ten times a second.
_SWITCHES_DOUBTFUL_PER_S = 100
# Cores may be idle when sampled, so only the highest clock seen counts; all-core clocks go down to about 0.7.
_FREQUENCY_DOUBTFUL = 0.6


def judge_fitness(
    noise: Noise,
    probes: Sequence[ProbeResult] = (),
    best: Calibration | None = None,
    threads: int = 1,
) -> Fitness:
    """Judge whether the machine was fit for measuring.

    Values that the system does not report count neither for nor against.

    Parameters
    ----------
    noise : Noise
        Noise during the measurement.
    probes : sequence of ProbeResult
        Probes made before, between and after the trials.
    best : Calibration, default=None
        The best of this machine; without it, a machine that is always slow looks healthy.
    threads : int, default=1
        Threads of the measured model.

    Raises
    ------
    NotComparableError
        The calibration is of different work than the probes.
    """
    unfit = [Reason(severity="unfit", words=words) for words in _grave(noise, probes, best, threads)]
    doubtful = [Reason(severity="doubtful", words=words) for words in _light(noise, probes, best, threads)]
    return Fitness(reasons=(*unfit, *doubtful))


def _grave(noise: Noise, probes: Sequence[ProbeResult], best: Calibration | None, threads: int) -> Iterator[str]:
    slowdown = _slowdown(probes, best)
    if slowdown is not None and slowdown > _SLOWDOWN_UNFIT:
        yield f"the probe ran {slowdown:.1f}x slower than this machine's best"
    throttled = _throttled_fraction(noise)
    if throttled is not None and throttled > _THROTTLED_UNFIT:
        yield f"the container was stopped by its CPU quota in {_percent(throttled)} of the periods"
    if noise.quota_cores is not None and threads > noise.quota_cores:
        yield f"{threads} threads, and a CPU quota of {noise.quota_cores:g} cores"
    if _above(noise.steal_fraction, _STEAL_UNFIT):
        yield f"the hypervisor took {_percent(noise.steal_fraction)} of the cores' time"
    if _above(noise.memory_pressure, _MEMORY_PRESSURE_UNFIT):
        yield f"tasks waited for memory {_percent(noise.memory_pressure)} of the time (PSI)"
    rate = _per_second(noise.swapped_in_bytes, noise)
    if rate is not None and rate > _SWAP_IN_UNFIT_BYTES_PER_S:
        yield f"{rate / 1e6:.1f} MB/s came back from swap"


def _light(noise: Noise, probes: Sequence[ProbeResult], best: Calibration | None, threads: int) -> Iterator[str]:
    yield from _light_probes(probes, best)
    throttled = _throttled_fraction(noise)
    if throttled is not None and 0 < throttled <= _THROTTLED_UNFIT:
        yield f"the container was stopped by its CPU quota in {_percent(throttled, 1)} of the periods"
    if _within(noise.steal_fraction, _STEAL_DOUBTFUL, _STEAL_UNFIT):
        yield f"the hypervisor took {_percent(noise.steal_fraction)} of the cores' time"
    if _above(noise.others_fraction, _OTHERS_DOUBTFUL):
        yield f"other processes used {_percent(noise.others_fraction)} of the cores' time"
    if _above(noise.siblings_busy_fraction, _SIBLINGS_DOUBTFUL):
        yield f"SMT siblings of the cores were busy {_percent(noise.siblings_busy_fraction)} of the time"
    if noise.physical_cores < threads <= len(noise.cores):
        yield f"{threads} threads share {noise.physical_cores} physical core{'s' * (noise.physical_cores != 1)} (SMT)"
    if threads > len(noise.cores):
        yield f"{threads} threads on {len(noise.cores)} cores"
    if _above(noise.cpu_pressure, _CPU_PRESSURE_DOUBTFUL):
        yield f"tasks waited for a CPU {_percent(noise.cpu_pressure)} of the time (PSI)"
    if _above(noise.io_pressure, _IO_PRESSURE_DOUBTFUL):
        yield f"tasks waited for a disk {_percent(noise.io_pressure)} of the time (PSI)"
    if _within(noise.memory_pressure, _MEMORY_PRESSURE_DOUBTFUL, _MEMORY_PRESSURE_UNFIT):
        yield f"tasks waited for memory {_percent(noise.memory_pressure)} of the time (PSI)"
    yield from _light_processes(noise)
    yield from _light_hardware(noise)


def _light_probes(probes: Sequence[ProbeResult], best: Calibration | None) -> Iterator[str]:
    slowdown = _slowdown(probes, best)
    if _within(slowdown, _SLOWDOWN_DOUBTFUL, _SLOWDOWN_UNFIT):
        yield f"the probe ran {slowdown:.2f}x slower than this machine's best"
    if not probes:
        return
    if (jitter := median(probe.jitter for probe in probes)) > _JITTER_DOUBTFUL:
        yield f"the probe's slowest tenth took {jitter:.1f} times its median or longer"
    spins = [probe.spin.median_ns for probe in probes]
    products = [probe.gemm.median_ns for probe in probes]
    drift = max(max(spins) / min(spins), max(products) / min(products))
    if drift > _DRIFT_DOUBTFUL:
        yield f"the core's own speed changed by {_percent(drift - 1)} between the probes"


def _light_processes(noise: Noise) -> Iterator[str]:
    if noise.cpu_ns is None or noise.cpu_ns <= 0:
        return
    if (
        noise.waited_ns is not None
        and (waited := noise.waited_ns / (noise.waited_ns + noise.cpu_ns)) > _WAITED_DOUBTFUL
    ):
        yield f"the measured threads waited for a CPU {_percent(waited)} of their time"
    if noise.involuntary_switches is not None:
        switches = noise.involuntary_switches * 1e9 / noise.cpu_ns
        if switches > _SWITCHES_DOUBTFUL_PER_S:
            yield f"the measured threads were preempted {switches:.0f} times per second"


def _light_hardware(noise: Noise) -> Iterator[str]:
    if noise.throttled_events:
        yield f"the processor slowed down {noise.throttled_events} times because of heat or power"
    if noise.cooling:
        yield "the system held the clock down because of heat"
    if noise.frequency_max_khz is not None and noise.frequency_limit_khz:
        share = noise.frequency_max_khz / noise.frequency_limit_khz
        if share < _FREQUENCY_DOUBTFUL:
            yield f"the clock was at most {noise.frequency_max_khz / 1e6:.2f} GHz, {_percent(share)} of its limit"
    rate = _per_second(noise.swapped_in_bytes, noise)
    if (noise.swapped_in_bytes or noise.swapped_out_bytes) and not _above(rate, _SWAP_IN_UNFIT_BYTES_PER_S):
        moved = (noise.swapped_in_bytes or 0) + (noise.swapped_out_bytes or 0)
        yield f"{moved / 1e6:.1f} MB went to swap or came back"


def _slowdown(probes: Sequence[ProbeResult], best: Calibration | None) -> float | None:
    # The median of the probes: one long interruption must not decide about a whole measurement.
    return median(probe.slowdown(best) for probe in probes) if probes and best is not None else None


def _throttled_fraction(noise: Noise) -> float | None:
    if not noise.quota_periods or noise.quota_throttled_periods is None:
        return None
    return noise.quota_throttled_periods / noise.quota_periods


def _per_second(amount: int | None, noise: Noise) -> float | None:
    return None if amount is None or noise.duration_ns == 0 else amount * 1e9 / noise.duration_ns


def _percent(share: float | None, digits: int = 0) -> str:
    return f"{100 * (share or 0.0):.{digits}f} %"


def _above(value: float | None, limit: float) -> bool:
    return value is not None and value > limit


def _within(value: float | None, lower: float, upper: float) -> bool:
    return value is not None and lower < value <= upper
