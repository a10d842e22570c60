"""Probe how fast and how evenly the machine runs right now, by timing a fixed piece of work.

``python -m benchmarks.machine.probe [CORES]`` does the work each time its parent asks, and blocks on a read in between.
The parent only asks and never does the work itself.
"""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from statistics import fmean, median
from typing import Any

import numpy as np
from pydantic import Field

from backends.base import Array
from benchmarks.errors import NotComparableError
from benchmarks.machine.affinity import format_cores, parse_cores, pin
from benchmarks.process.channel import Message
from benchmarks.process.child import Conversation, thread_environment
from benchmarks.process.serving import serve_parent
from benchmarks.records.base import Record

__all__ = ["BUDGET_NS", "Calibration", "Probe", "ProbeResult", "ProbeSamples", "calibrate", "main", "measure"]

BUDGET_NS = 50_000_000
"""Duration of one probe: long enough to be interrupted by a scheduler with time slices of a few milliseconds."""

_SPIN_STEPS = 2_000
_GEMM_SIZE = 128
_DROPPED_SHARE = 0.1
_FEWEST = 10
_TIMEOUT_S = 60.0


class ProbeSamples(Record):
    """Repetitions of one fixed piece of work.

    Parameters
    ----------
    calls_ns : tuple of int
        Wall time of each repetition.
    cpu_ns : int
        Total CPU time; the rest was spent waiting for a core.
    """

    calls_ns: tuple[int, ...] = Field(min_length=1)
    cpu_ns: int = Field(ge=0)

    @property
    def median_ns(self) -> float:
        """Median time of a repetition."""
        return median(self.calls_ns)

    @property
    def mean_ns(self) -> float:
        """Mean time of a repetition: unlike the median, it is sensitive to rare long interruptions."""
        return fmean(self.calls_ns)

    @property
    def jitter(self) -> float:
        """90th percentile over median, at least 1."""
        # A tenth of ten samples is one: enough to detect uneven work, which is the only purpose.
        rank = -(-9 * len(self.calls_ns) // 10)
        return max(1.0, sorted(self.calls_ns)[rank - 1] / self.median_ns)


class Calibration(Record):
    """The fastest probe ever seen on a machine.

    Parameters
    ----------
    work : str
        Description of the work and what ran it; other work is not comparable.
    spin_ns, gemm_ns : int
        Shortest repetition.
    """

    work: str
    spin_ns: int = Field(ge=1)
    gemm_ns: int = Field(ge=1)


class ProbeResult(Record):
    """Result of one probe.

    Parameters
    ----------
    work : str
        Description of the work and what ran it.
    spin : ProbeSamples
        An interpreter loop, sensitive to the clock and the scheduler.
    gemm : ProbeSamples
        A small matrix product on one thread, also sensitive to sharing of the core's vector units and caches.
    """

    work: str
    spin: ProbeSamples
    gemm: ProbeSamples

    @property
    def jitter(self) -> float:
        """90th percentile over median, for the less even of the two kinds of work."""
        return max(self.spin.jitter, self.gemm.jitter)

    def slowdown(self, best: Calibration) -> float:
        """Return how many times longer the work took than at best, interruptions included.

        Raises
        ------
        NotComparableError
            The calibration is of different work.
        """
        if best.work != self.work:
            raise NotComparableError(f"the probe did {self.work!r}, its calibration is of {best.work!r}")
        return max(self.spin.mean_ns / best.spin_ns, self.gemm.mean_ns / best.gemm_ns)


def calibrate(probes: Iterable[ProbeResult], previous: Calibration | None = None) -> Calibration:
    """Return the best of some probes, and of an earlier calibration if it is of the same work.

    Parameters
    ----------
    probes : iterable of ProbeResult
        Not empty, of the same work.
    previous : Calibration, default=None
        Earlier calibration.

    Raises
    ------
    NotComparableError
        The probes did different work, or there are none.
    """
    results = list(probes)
    works = {probe.work for probe in results}
    if len(works) != 1:
        raise NotComparableError(f"a calibration needs probes of one kind; got {len(works)} kinds")
    spin_ns = [min(probe.spin.calls_ns) for probe in results]
    gemm_ns = [min(probe.gemm.calls_ns) for probe in results]
    if previous is not None and previous.work in works:
        spin_ns.append(previous.spin_ns)
        gemm_ns.append(previous.gemm_ns)
    return Calibration(work=works.pop(), spin_ns=min(spin_ns), gemm_ns=min(gemm_ns))


def measure(
    call: Callable[[], object],
    budget_ns: int,
    clock: Callable[[], int] = time.perf_counter_ns,
    cpu_clock: Callable[[], int] = time.process_time_ns,
) -> ProbeSamples:
    """Time repetitions of a call for a given duration; the first tenth is a warm-up that is not counted.

    Parameters
    ----------
    call : callable
        The fixed work.
    budget_ns : int
        Total duration; at least 10 repetitions are counted however long they take.
    clock, cpu_clock : callable
        Return nanoseconds of wall time and of this process's CPU time.
    """
    start = clock()
    call()
    while clock() - start < _DROPPED_SHARE * budget_ns:
        call()
    calls_ns: list[int] = []
    cpu_start = cpu_clock()
    now = clock()
    while len(calls_ns) < _FEWEST or now - start < budget_ns:
        call()
        # One clock reading ends a call and starts the next, so that interruptions in between are not lost.
        before, now = now, clock()
        calls_ns.append(max(1, now - before))
    return ProbeSamples(calls_ns=tuple(calls_ns), cpu_ns=cpu_clock() - cpu_start)


class Probe(Conversation):
    """A process that probes on request and rests otherwise; use it in a ``with`` statement.

    Parameters
    ----------
    cores : sequence of int, default=None
        Cores it runs on: those of the measured process; by default wherever the system puts it.
    timeout_s : float, default=60
        Time limit in seconds for each answer.
    """

    def __init__(self, cores: Sequence[int] | None = None, timeout_s: float = _TIMEOUT_S) -> None:
        super().__init__(
            ["-m", "benchmarks.machine.probe", *([] if cores is None else [format_cores(cores)])],
            who="the probe of the machine",
            timeout_s=timeout_s,
            environment=thread_environment(1),
        )

    def run(self, budget_ns: int = BUDGET_NS) -> ProbeResult:
        """Probe the machine for about `budget_ns`.

        Raises
        ------
        WorkerError
            The probe died or did not answer in time.
        """
        answer, arrays = self.ask("probe", {"budget_ns": budget_ns})
        spin = ProbeSamples(calls_ns=tuple(arrays["spin_ns"].tolist()), cpu_ns=answer["spin_cpu_ns"])
        gemm = ProbeSamples(calls_ns=tuple(arrays["gemm_ns"].tolist()), cpu_ns=answer["gemm_cpu_ns"])
        return ProbeResult(work=answer["work"], spin=spin, gemm=gemm)


def _works() -> tuple[str, Callable[[], object], Callable[[], object]]:
    rng = np.random.default_rng(0)
    left, right = rng.standard_normal((2, _GEMM_SIZE, _GEMM_SIZE), np.float32)
    out = np.empty_like(left)

    def spin() -> int:
        value = 1
        for _ in range(_SPIN_STEPS):
            value = (value * 1103515245 + 12345) & 0x7FFFFFFF
        return value

    def gemm() -> Any:
        return np.matmul(left, right, out=out)

    versions = f"{platform.python_implementation()} {platform.python_version()}, NumPy {np.__version__}"
    return f"{_SPIN_STEPS} steps, {_GEMM_SIZE}x{_GEMM_SIZE} float32, {versions}", spin, gemm


def main() -> None:
    """Answer the parent's requests."""
    if len(sys.argv) > 1:
        pin(parse_cores(sys.argv[1]))
    work, spin, gemm = _works()

    def answer(question: Message, _: dict[str, Array]) -> tuple[Message, dict[str, Array]]:
        half_ns = question["budget_ns"] // 2
        spun, multiplied = measure(spin, half_ns), measure(gemm, half_ns)
        arrays: dict[str, Array] = {
            "spin_ns": np.array(spun.calls_ns, np.int64),
            "gemm_ns": np.array(multiplied.calls_ns, np.int64),
        }
        return {"work": work, "spin_cpu_ns": spun.cpu_ns, "gemm_cpu_ns": multiplied.cpu_ns}, arrays

    serve_parent({"probe": answer})


if __name__ == "__main__":
    main()
