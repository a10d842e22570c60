"""The measured process, from its parent's side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from backends.base import Array
from benchmarks.errors import NoAnswerError
from benchmarks.machine.affinity import format_cores
from benchmarks.process import worker as worker_module
from benchmarks.process.channel import Message
from benchmarks.process.child import Conversation, thread_environment
from benchmarks.process.warmup import WarmUpLimits
from benchmarks.records.measurement import CompileCost, Memory
from benchmarks.subject.subject import SubjectSpec

__all__ = ["HOW_TO_WAIT", "Closing", "Launch", "Loaded", "MeasuredProcess", "MeasuredWorker", "Warm"]

HOW_TO_WAIT = "a larger --budget waits longer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """Result of compiling a model and running it once; durations in nanoseconds."""

    import_ns: int
    load_ns: int
    first_run_ns: int
    executed_precision: str
    properties: dict[str, str]
    backend_version: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Warm:
    """Result of the warm-up; `calls_ns` has at most the first thousand of `n_calls` calls."""

    calls_ns: tuple[int, ...]
    n_calls: int
    total_ns: int
    ended: Literal["steady", "budget"]
    latency_ns: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Closing:
    """Resources a process used until its end."""

    cpu_ns: int
    involuntary_switches: int
    memory: Memory


class MeasuredWorker(Protocol):
    """A measured process as the runner sees it; every question may raise `WorkerError`."""

    @property
    def pid(self) -> int:
        """Process id."""

    def load(self, feeds: Mapping[str, Array], others: Sequence[Mapping[str, Array]] = ()) -> Loaded:
        """Import the runtime, compile, bind `feeds` and `others`, whose calls alternate, and run once."""

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Return the outputs for other feeds."""

    def warm_up(self, limits: WarmUpLimits) -> Warm:
        """Call until the latency is steady."""

    def block(self, n_calls: int, n_dropped: int) -> tuple[int, ...]:
        """Make `n_dropped` calls, then `n_calls` whose nanoseconds are returned."""

    def rest(self) -> None:
        """Use no CPU at all until `wake`."""

    def wake(self) -> None:
        """End a rest."""

    def finish(self) -> Closing:
        """Return the totals; no question may follow."""

    def close(self) -> None:
        """End the process and wait for it; a second call does nothing."""


class Launch(Protocol):
    """How a measured process is started: an argument, so that tests can simulate one."""

    def __call__(self, spec: SubjectSpec, *, timeout_s: float, call_timeout_s: float | None = None) -> MeasuredWorker:
        """Start a process for `spec` that must answer each question in time, see `MeasuredProcess`."""


class MeasuredProcess(Conversation):
    """A separate process for one model; implements `MeasuredWorker`.

    Parameters
    ----------
    spec : SubjectSpec
        The model to measure.
    timeout_s : float
        Time limit in seconds for each answer, after which it is killed and `NoAnswerError` raised.
    call_timeout_s : float, optional
        Time limit in seconds for the first call, which shows whether the model ends at all; by default `timeout_s`.
    """

    def __init__(self, spec: SubjectSpec, *, timeout_s: float, call_timeout_s: float | None = None) -> None:
        self._spec = spec
        self._call_timeout_s = call_timeout_s
        cores = [] if spec.cores is None else [format_cores(spec.cores)]
        super().__init__(
            ["-m", worker_module.__name__, *cores],
            who=f"{spec.backend} on {spec.model}",
            timeout_s=timeout_s,
            environment=thread_environment(spec.options.threads),
        )

    def load(self, feeds: Mapping[str, Array], others: Sequence[Mapping[str, Array]] = ()) -> Loaded:
        """Import the runtime, compile, bind `feeds` and `others`, whose calls alternate, and run once."""
        calls = (feeds, *others)
        stacked = {name: np.stack([each[name] for each in calls]) for name in feeds}
        question = {"backend": self._spec.backend, "calls": len(calls)}
        prepared, _ = self.ask("prepare", question, stacked)
        model = str(self._spec.model.resolve())
        loaded, _ = self.ask("load", {"model": model, "options": asdict(self._spec.options)})
        try:
            called, _ = self.ask("first_run", timeout_s=self._call_timeout_s)
        except NoAnswerError as error:
            raise NoAnswerError(f"{error}; {HOW_TO_WAIT}") from error
        return Loaded(**prepared, **loaded, **called)

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Return the outputs for other feeds."""
        return self.ask("run", {}, feeds)[1]

    def warm_up(self, limits: WarmUpLimits) -> Warm:
        """Call until the latency is steady."""
        answer, arrays = self.ask("warm_up", {"limits": asdict(limits)})
        return Warm(calls_ns=_durations(arrays["calls_ns"]), **answer)

    def block(self, n_calls: int, n_dropped: int) -> tuple[int, ...]:
        """Make `n_dropped` calls, then `n_calls` whose nanoseconds are returned."""
        _, arrays = self.ask("block", {"calls": n_calls, "dropped": n_dropped})
        return _durations(arrays["calls_ns"])

    def compile_cached(self, file: Path, compiled_ns: int | None = None) -> CompileCost:
        """Import the runtime and compile, storing the result in `file`; with `compiled_ns`, load it from there."""
        self.ask("prepare", {"backend": self._spec.backend})
        options, model = asdict(self._spec.options), str(self._spec.model.resolve())
        question = {"model": model, "options": options, "file": str(file), "compiled_ns": compiled_ns}
        return CompileCost.model_validate(self.ask("compile_cached", question)[0])

    def scenario(self, question: Message, streams: int) -> tuple[Message, dict[str, Array]]:
        """Run a load scenario on the warm model with `streams` bound calls; see `benchmarks.scenarios.run_scenario`."""
        return self.ask("scenario", {"question": question, "streams": streams})

    def finish(self) -> Closing:
        """Return the totals; no question may follow."""
        answer, _ = self.ask("finish", {})
        memory = Memory(
            **{name: answer.pop(name) for name in ("baseline_bytes", "peak_bytes", "weights_bytes", "phases")}
        )
        return Closing(memory=memory, **answer)


def _durations(samples: Array) -> tuple[int, ...]:
    return tuple(np.asarray(samples, np.int64).tolist())
