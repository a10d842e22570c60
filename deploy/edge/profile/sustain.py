"""Sustained load: calls without a pause for minutes, and a reading of the board about once a second.

This process reads the board between two blocks of calls, while the measured one waits: no call is disturbed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from benchmarks.arm import PreparedArm
from benchmarks.machine.board.watch import Watching
from benchmarks.machine.energy import EnergyMeter
from benchmarks.process.measured import Launch, MeasuredProcess, MeasuredWorker
from benchmarks.process.warmup import WarmUpLimits
from deploy.edge.profile.record import Second, Sustained

__all__ = ["Clocks", "put_under_load"]

_BLOCK_NS = 1e9
_SHORTEST_NS = 0.25e9
"""Shorter remainders at the end do not get a block of their own."""
_KEPT = 256
"""Most calls per second kept raw, to bound the size of a profile."""
_WARM_UP = WarmUpLimits(min_ns=50_000_000, max_ns=500_000_000)
"""Short: a long one would heat the board before its burst is seen."""


class Clocks(NamedTuple):
    """Process launcher and clock of a load, as arguments so that tests can simulate them.

    Parameters
    ----------
    launch : Launch
        Starts the measured process.
    now_ns : callable
        Returns nanoseconds.
    """

    launch: Launch = MeasuredProcess
    now_ns: Callable[[], int] = time.monotonic_ns


def put_under_load(
    arm: PreparedArm,
    seconds: float,
    watch: Watching,
    *,
    timeout_s: float,
    meter: EnergyMeter | None = None,
    say: Callable[[str], None] = lambda _: None,
    clocks: Clocks | None = None,
) -> Sustained:
    """Call a model without a pause for some time.

    Parameters
    ----------
    arm : PreparedArm
        The prepared model.
    seconds : float
        How long; the last block may end a little later.
    watch : Watching
        Reads the board.
    timeout_s : float
        Time limit in seconds for each answer of the process.
    meter : EnergyMeter, optional
        Counts energy; None if nothing does.
    say : callable
        Receives one short line for each second.
    clocks : Clocks, optional
        Process launcher and clock.

    Raises
    ------
    WorkerError
        The model cannot be compiled, or its process died or hung.
    """
    clocks = clocks or Clocks()
    worker = clocks.launch(arm.spec, timeout_s=timeout_s)
    try:
        worker.load(arm.feeds, arm.others)
        rest = watch.read()
        latency_ns = worker.warm_up(_WARM_UP).latency_ns
        loaded: list[Second] = []
        begin_ns = clocks.now_ns()
        while (at_ns := clocks.now_ns() - begin_ns) < seconds * 1e9 - _SHORTEST_NS or not loaded:
            say(f"{arm.subject.label}: under load, {at_ns / 1e9:.0f} of {seconds:g} s{_state(loaded)}")
            left_ns = min(_BLOCK_NS, max(1.0, seconds * 1e9 - at_ns))
            loaded.append(_second(worker, max(1, round(left_ns / latency_ns)), at_ns, watch, meter, clocks.now_ns))
            latency_ns = loaded[-1].lasted_s * 1e9 / loaded[-1].calls
    finally:
        worker.close()
    return Sustained(label=arm.subject.label, asked_s=seconds, rest=rest, seconds=tuple(loaded))


def _second(
    worker: MeasuredWorker,
    calls: int,
    at_ns: int,
    watch: Watching,
    meter: EnergyMeter | None,
    now_ns: Callable[[], int],
) -> Second:
    kept, energy_uj = min(calls, _KEPT), None
    if meter is not None:
        meter.start()
    start_ns = now_ns()
    try:
        samples = worker.block(kept, calls - kept)
        lasted_ns = max(1, now_ns() - start_ns)
    finally:
        if meter is not None:
            energy_uj = meter.stop()
    return Second(
        at_s=at_ns / 1e9,
        lasted_s=lasted_ns / 1e9,
        calls=calls,
        calls_ns=samples,
        energy_uj=energy_uj,
        reading=watch.read(),
    )


def _state(loaded: list[Second]) -> str:
    """Write the latest state of the board, as far as it is reported."""
    if not loaded:
        return ""
    reading = loaded[-1].reading
    parts = [] if reading.celsius is None else [f"{reading.celsius:.0f} C"]
    parts += [f"{khz / 1e6:.2f} GHz" for khz in list(reading.khz.values())[:1]]
    return f", {', '.join((*parts, *reading.throttled))}" if parts or reading.throttled else ""
