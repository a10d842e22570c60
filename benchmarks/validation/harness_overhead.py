"""Measure what the harness adds to a call: ``python -m benchmarks.validation.harness_overhead``.

The same bound calls are made by a bare loop, timed as a whole, and by the loop that times each call, in turn. The null
backend shows the cost in nanoseconds, a network of about a millisecond in ONNX Runtime its share.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from backends import registry
from backends.base import CompileOptions
from benchmarks.process.worker import timed_calls
from benchmarks.records.measurement import Interval
from benchmarks.stats.summary import median_interval
from benchmarks.validation.real_machine import chain

__all__ = ["Overhead", "main", "overhead"]

_ROUNDS = 41
_ROWS, _FEATURES, _LAYERS = 64, 256, 10
_NULL_CALLS, _MODEL_CALLS = 2000, 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Overhead:
    """Overhead of timing a call.

    Parameters
    ----------
    call_ns : float
        Time of one call in the bare loop, in nanoseconds.
    added_ns : Interval
        Time that timing adds per call, loop included, in nanoseconds: median over rounds.
    excess_ns : Interval
        Difference of the mean sample to a call of the bare loop, in nanoseconds: median over rounds.
    """

    call_ns: float
    added_ns: Interval
    excess_ns: Interval


def overhead(call: Callable[[], None], n_calls: int, rounds: int = _ROUNDS) -> Overhead:
    """Make bare and timed calls in turn and return their difference.

    Parameters
    ----------
    call : callable
        A bound call.
    n_calls : int
        Calls per round and loop.
    rounds : int
        Pairs of loops.
    """
    clock = time.perf_counter_ns
    bare, added, excess = [], [], []
    timed_calls(call, n_calls, clock)
    for _ in range(rounds):
        start = clock()
        for _ in range(n_calls):
            call()
        bare_ns = (clock() - start) / n_calls
        start = clock()
        samples = timed_calls(call, n_calls, clock)
        timed_ns = (clock() - start) / n_calls
        bare.append(bare_ns)
        added.append(timed_ns - bare_ns)
        excess.append(float(samples.mean()) - bare_ns)
    return Overhead(call_ns=median(bare), added_ns=median_interval(added), excess_ns=median_interval(excess))


def main() -> None:
    """Print the overhead for the null backend and ONNX Runtime."""
    with tempfile.TemporaryDirectory() as folder:
        path = chain(Path(folder) / "chain.onnx", _LAYERS, rows=_ROWS, features=_FEATURES)
        feeds = {"x": np.ones((_ROWS, _FEATURES), np.float32)}
        for backend, n_calls in (("null", _NULL_CALLS), ("ort", _MODEL_CALLS)):
            compiled = registry.create(backend).compile(path, CompileOptions())
            measured = overhead(compiled.bind(feeds), n_calls)
            added, excess = measured.added_ns, measured.excess_ns
            sys.stdout.write(
                f"{backend}: a call takes {measured.call_ns / 1e3:.2f} us; timing it adds {added.value:.0f} ns "
                f"[{added.low:.0f}, {added.high:.0f}] ({added.value / measured.call_ns:.2%}); "
                f"the mean sample says {excess.value:+.0f} ns [{excess.low:.0f}, {excess.high:.0f}]\n"
            )
            compiled.close()


if __name__ == "__main__":
    main()
