"""The measured process: ``python -m benchmarks.process.worker [CORES]``.

It runs one model on one backend. It answers its parent's questions one at a time, and blocks on a read in between.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from itertools import cycle
from pathlib import Path

import numpy as np

from backends import registry
from backends.base import Array, Backend, CompiledModel, CompileOptions
from benchmarks.machine.affinity import parse_cores, pin
from benchmarks.process.channel import Message
from benchmarks.process.compile_cache import compile_and_keep, load_kept
from benchmarks.process.limits import limit_memory
from benchmarks.process.memory import PhaseRecorder
from benchmarks.process.serving import Command, serve_parent
from benchmarks.process.warmup import WarmUp, WarmUpLimits

__all__ = ["WARM_UP_KEPT", "Worker", "main", "timed_calls"]

WARM_UP_KEPT = 1000
"""Number of first calls recorded of a longer warm-up."""

Samples = np.ndarray[tuple[int], np.dtype[np.int64]]


def timed_calls(call: Callable[[], None], n_calls: int, clock: Callable[[], int]) -> Samples:
    """Time calls one by one, with nothing but the call between two clock readings.

    The garbage collector is off meanwhile.

    Parameters
    ----------
    call : callable
        Synchronous.
    n_calls : int
        Number of calls.
    clock : callable
        Returns nanoseconds.

    Returns
    -------
    ndarray of shape (n_calls,), dtype int64
        Nanoseconds, at least 1 (a clock may be too coarse to see the call).
    """
    samples = np.ones(n_calls, np.int64)  # written now, to avoid page faults while measuring
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        for index in range(n_calls):
            start = clock()
            call()
            samples[index] = clock() - start
    finally:
        if was_enabled:
            gc.enable()
    return np.maximum(samples, 1)


class Worker:
    """The commands of the measured process; each method answers one question of the parent.

    Parameters
    ----------
    clock : callable
        Returns nanoseconds; the only clock used.
    create : callable
        Returns the backend with a given name.
    """

    def __init__(
        self,
        clock: Callable[[], int] = time.perf_counter_ns,
        create: Callable[[str], Backend] = registry.create,
    ) -> None:
        self._clock = clock
        self._create = create
        self._backend: Backend
        self._feeds: list[dict[str, Array]] = []
        self._compiled: CompiledModel | None = None
        self._call: Callable[[], None] | None = None
        self._memory = PhaseRecorder()
        self._cpu_ns = 0
        self._switches = 0

    def commands(self) -> dict[str, Command]:
        """Return the commands by name."""
        return {
            "prepare": self.prepare,
            "load": self.load,
            "first_run": self.first_run,
            "compile": self.compile,
            "run": self.run,
            "warm_up": self.warm_up,
            "block": self.block,
            "scenario": self.scenario,
            "compile_cached": self.compile_cached,
            "finish": self.finish,
        }

    def prepare(self, question: Message, arrays: dict[str, Array]) -> tuple[Message, dict[str, Array]]:
        """Import the runtime and take the feeds; memory resident by then is not the model's."""
        self._backend = self._create(question["backend"])
        self._memory.end("start")
        start = self._clock()
        self._backend.load_runtime()
        import_ns = self._clock() - start
        self._feeds = [
            {name: array[index, ...] for name, array in arrays.items()} for index in range(question.get("calls", 0))
        ]
        self._memory.end("import")
        return {"import_ns": import_ns}, {}

    def load(self, question: Message, _: dict[str, Array]) -> tuple[Message, dict[str, Array]]:
        """Compile the model and bind its feeds."""
        options = CompileOptions(**question["options"])
        if options.device == "cpu":  # a GPU driver maps more memory than it uses
            limit_memory()
        start = self._clock()
        compiled = self._compiled = self._backend.compile(Path(question["model"]), options)
        load_ns = self._clock() - start
        self._memory.end("compile")
        self._call = self._bound(compiled)
        return {
            "load_ns": max(1, load_ns),
            "executed_precision": compiled.executed_precision,
            "properties": dict(compiled.properties),
            "backend_version": self._backend.availability(options.device).version,
        }, {}

    def first_run(self, *_: object) -> tuple[Message, dict[str, Array]]:
        """Make the first call, which may include set-up not done by compiling."""
        assert self._call is not None
        start = self._clock()
        self._call()
        first_run_ns = self._clock() - start
        self._memory.end("first_run")
        return {"first_run_ns": max(1, first_run_ns)}, {}

    def compile(self, question: Message, _: dict[str, Array]) -> tuple[Message, dict[str, Array]]:
        """Import the runtime and compile, to answer questions only: nothing is bound or timed."""
        compiled = self._create(question["backend"]).compile(
            Path(question["model"]), CompileOptions(**question["options"])
        )
        self._compiled = compiled
        return {side: [asdict(spec) for spec in getattr(compiled, side)] for side in ("inputs", "outputs")}, {}

    def run(self, _: Message, arrays: dict[str, Array]) -> tuple[Message, dict[str, Array]]:
        """Return the outputs for these feeds, for the check; the timed call keeps its own feeds."""
        assert self._compiled is not None
        return {}, self._compiled.run(arrays)

    def warm_up(self, question: Message, _: dict[str, Array]) -> tuple[Message, dict[str, Array]]:
        """Call until the latency is steady. The check's buffers are freed by now, so the peak is reset."""
        assert self._call is not None
        self._memory.restart()
        warm_up = WarmUp(WarmUpLimits(**question["limits"]))
        durations: list[int] = []
        while warm_up.ended is None:
            duration_ns = int(timed_calls(self._call, 1, self._clock)[0])
            warm_up.add(duration_ns)
            if warm_up.n_calls <= WARM_UP_KEPT:
                durations.append(duration_ns)
        answer = {
            "ended": warm_up.ended,
            "total_ns": warm_up.total_ns,
            "latency_ns": warm_up.latency_ns,
            "n_calls": warm_up.n_calls,
        }
        return answer, {"calls_ns": np.array(durations, np.int64)}

    def block(self, question: Message, _: dict[str, Array]) -> tuple[Message, dict[str, Array]]:
        """Make some uncounted calls, then some timed ones."""
        import resource

        assert self._call is not None
        timed_calls(self._call, question["dropped"], self._clock)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
        cpu_ns = time.process_time_ns()
        samples = timed_calls(self._call, question["calls"], self._clock)
        self._cpu_ns += time.process_time_ns() - cpu_ns
        self._switches += resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw - before
        return {}, {"calls_ns": samples}

    def scenario(self, question: Message, _: dict[str, Array]) -> tuple[Message, dict[str, Array]]:
        """Run a load scenario on the warm model, with one bound call per stream."""
        # Not imported at the top, since it would be resident in every measured process and few need it.
        from benchmarks.scenarios import Device, run_on_device, run_scenario, settings_of

        assert self._compiled is not None
        settings = settings_of(question["question"])
        if isinstance(settings, Device):
            timer = self._compiled.device_timer(self._feeds[0], in_flight=settings.in_flight)
            try:
                return run_on_device(question["question"], timer, replays_graph=timer.replays_graph)
            finally:
                timer.close()
        calls = [self._bound(self._compiled) for _ in range(question["streams"])]
        for call in calls:
            call()  # each binding has its own buffers to touch
        return run_scenario(question["question"], calls, self._clock)

    def _bound(self, compiled: CompiledModel) -> Callable[[], None]:
        """Bind all feeds; if there are several, their calls alternate."""
        calls = [compiled.bind(feeds) for feeds in self._feeds]
        if len(calls) == 1:
            return calls[0]
        turns = cycle(calls)
        return lambda: next(turns)()

    def compile_cached(self, question: Message, _: dict[str, Array]) -> tuple[Message, dict[str, Array]]:
        """Compile and store the result in a file, or load it from there, then close the model."""
        options, model, file = CompileOptions(**question["options"]), Path(question["model"]), Path(question["file"])
        if question["compiled_ns"] is None:
            cost = compile_and_keep(self._backend, model, options, file, clock=self._clock)
        else:
            cost = load_kept(
                self._backend, model, options, file, compiled_ns=question["compiled_ns"], clock=self._clock
            )
        return cost.model_dump(mode="json"), {}

    def finish(self, _: Message, __: dict[str, Array]) -> tuple[Message, dict[str, Array]]:
        """Return the totals and free the model."""
        self._memory.end("steady")
        weights_bytes = None
        if self._compiled is not None:
            weights_bytes = self._compiled.memory().weights_bytes
            self._compiled.close()
        return {
            "cpu_ns": self._cpu_ns,
            "involuntary_switches": self._switches,
            "baseline_bytes": self._memory.baseline_bytes,
            "peak_bytes": self._memory.peak_bytes,
            "weights_bytes": weights_bytes,
            "phases": [phase.model_dump(mode="json") for phase in self._memory.phases],
        }, {}


def main() -> None:
    """Serve the parent on the pipes of standard input and output."""
    if len(sys.argv) > 1:
        pin(parse_cores(sys.argv[1]))  # before a runtime starts threads: they inherit it
    serve_parent(Worker().commands())


if __name__ == "__main__":
    main()
