"""Run models in a separate process and time their layers: the parent's side of `benchmarks.layers.worker`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np

from backends.base import Array, CompileOptions, LayerInfo
from benchmarks.layers import worker
from benchmarks.process.child import Conversation, thread_environment

__all__ = ["Processes", "Ran", "RunSessions", "run_in_process", "session_process"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """Result of the sessions in which a process compiled and ran one model.

    Parameters
    ----------
    calls_ns : tuple of tuple of int
        Nanoseconds of the calls of each turn of each session, without the first call of a session.
    layers : tuple of tuple of LayerInfo
        Layers of each session; empty if unprofiled.
    executed_precision : str
        Precision read back from the runtime.
    backend_version : str or None
        Version of the runtime.
    beside_ns : tuple of tuple of int
        Nanoseconds of the calls of each turn of the model beside it.
    """

    calls_ns: tuple[tuple[int, ...], ...]
    layers: tuple[tuple[LayerInfo, ...], ...]
    executed_precision: str
    backend_version: str | None
    beside_ns: tuple[tuple[int, ...], ...] = ()


class RunSessions(Protocol):
    """Runs a model in a separate process; passed as an argument so that tests can simulate it."""

    def __call__(
        self,
        backend: str,
        model: Path,
        options: CompileOptions,
        feeds: Mapping[str, Array],
        *,
        sessions: int,
        most_calls: int,
        budget_s: float,
        total_s: float,
        turns: int = 1,
        beside: Path | None = None,
    ) -> Ran:
        """Compile and run `model` in `sessions` sessions, see `run_in_process`.

        Each session has `turns` turns of at most `most_calls` calls. `beside`, another model for the same inputs that
        stays compiled between questions, takes as many turns in between, so that other load slows both alike. It goes
        first in even turns and second in odd ones, and each turn of both has as many calls as it makes in `budget_s`.
        """


class Processes(Protocol):
    """Starts a process that runs models in turn; passed as an argument so that tests can simulate it."""

    def __call__(self, backend: str, *, threads: int) -> AbstractContextManager[RunSessions]:
        """See `session_process`."""


def run_in_process(
    backend: str,
    model: Path,
    options: CompileOptions,
    feeds: Mapping[str, Array],
    *,
    sessions: int = 1,
    most_calls: int = 300,
    budget_s: float = 2.0,
    total_s: float = 20.0,
    turns: int = 1,
    beside: Path | None = None,
    timeout_s: float = 600.0,
) -> Ran:
    """Run one model in a separate process.

    Parameters
    ----------
    backend : str
        Name in `backends.registry`.
    model : Path
        ONNX file.
    options : CompileOptions
        Its layers are timed if ``profile`` is set.
    feeds : Mapping of str to ndarray
        Inputs of a call.
    sessions : int, default=1
        Number of times it is compiled and run, at most.
    most_calls : int, default=300
        A turn ends after this many calls.
    budget_s : float, default=2.0
        Or after this many seconds of calls, but not before two calls.
    total_s : float, default=20.0
        No session but the first starts after this many seconds, and no turn this long after the first of its session.
    turns : int, default=1
        Turns per session.
    beside : Path, optional
        Another model that takes turns with it; see `RunSessions`.
    timeout_s : float, default=600.0
        Seconds until the process is killed.

    Raises
    ------
    WorkerError
        The backend refuses the model or the options, or the process died or hung.
    """
    with session_process(backend, threads=options.threads, timeout_s=timeout_s) as run:
        return run(
            backend,
            model,
            options,
            feeds,
            sessions=sessions,
            most_calls=most_calls,
            budget_s=budget_s,
            total_s=total_s,
            turns=turns,
            beside=beside,
        )


@contextmanager
def session_process(backend: str, *, threads: int, timeout_s: float = 600.0) -> Iterator[RunSessions]:
    """Start one process that runs many models in turn; each is closed before the next is compiled.

    Parameters
    ----------
    backend : str
        Name in `backends.registry`.
    threads : int
        Threads of one inference.
    timeout_s : float, default=600.0
        Seconds for one model until the process is killed.

    Raises
    ------
    WorkerError
        See `run_in_process`.
    """
    with Conversation(
        ["-m", worker.__name__], who=backend, timeout_s=timeout_s, environment=thread_environment(threads)
    ) as process:
        yield partial(_ask, process)


def _ask(
    process: Conversation,
    backend: str,
    model: Path,
    options: CompileOptions,
    feeds: Mapping[str, Array],
    *,
    sessions: int,
    most_calls: int,
    budget_s: float,
    total_s: float,
    turns: int = 1,
    beside: Path | None = None,
) -> Ran:
    process.who = f"{backend} on {model}"
    question = {
        "backend": backend,
        "model": str(model.resolve()),
        "options": asdict(options),
        "sessions": sessions,
        "most_calls": most_calls,
        "budget_ns": round(1e9 * budget_s),
        "total_ns": round(1e9 * total_s),
        "turns": turns,
        "beside": "" if beside is None else str(beside.resolve()),
    }
    answer, arrays = process.ask("profile", question, feeds)

    def durations(name: str) -> tuple[tuple[int, ...], ...]:
        places = range(sum(each.startswith(name) for each in arrays))
        return tuple(tuple(np.asarray(arrays[f"{name}{place}"]).tolist()) for place in places)

    return Ran(
        calls_ns=durations("calls_"),
        beside_ns=durations("beside_"),
        layers=tuple(
            tuple(LayerInfo(**{**layer, "nodes": tuple(layer["nodes"])}) for layer in layers)
            for layers in answer["sessions"]
        ),
        executed_precision=answer["executed_precision"],
        backend_version=answer["backend_version"],
    )
