"""The profiling process: ``python -m benchmarks.layers.worker``.

It runs a model a given number of times, profiled or not, and returns how long the calls and layers took.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from backends import registry
from backends.base import Array, Backend, CompiledModel, CompileOptions
from backends.errors import OptionError
from benchmarks.process.channel import Message
from benchmarks.process.serving import serve_parent

__all__ = ["Ready", "main", "run_sessions"]


_WARM_UP = 5
"""Calls of the model that runs beside others, before its first turn."""


class Ready(NamedTuple):
    """A model compiled and bound to its inputs, with its fastest call so far in nanoseconds."""

    compiled: CompiledModel
    call: Callable[[], object]
    call_ns: int


def run_sessions(
    question: Message,
    feeds: Mapping[str, Array],
    *,
    ready: dict[str, Ready] | None = None,
    create: Callable[[str], Backend] = registry.create,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> tuple[Message, dict[str, Array]]:
    """Compile and run a model in several sessions.

    Parameters
    ----------
    question : dict
        ``backend``, ``model``, ``options``; ``sessions``: how often it is compiled and run; ``turns`` per session;
        ``most_calls`` and ``budget_ns``: a turn ends at whichever comes first, but not before two calls; ``total_ns``:
        no session but the first starts after it, and no turn after that time in its session; ``beside``: another model
        that takes turns with it, "" for none. With one, every turn of both has as many calls as that one makes within
        the budget, and turns come in pairs.
    feeds : Mapping of str to ndarray
        Inputs of a call.
    ready : dict, optional
        Keeps the model that runs beside others for the next question.
    create : callable
        Returns the backend with a name.
    clock : callable
        Returns nanoseconds.

    Returns
    -------
    (dict, dict)
        What was executed, and the layers of each session if ``options`` set ``profile``; and the nanoseconds of the
        calls of turn ``i`` as array ``calls_i``, of the model beside it as ``beside_i``. The first call of a session is
        left out.

    Raises
    ------
    OptionError
        The backend reports no layer times.
    BackendError
        See `Backend.compile` and `CompiledModel.bind`.
    """
    backend = create(question["backend"])
    options = CompileOptions(**question["options"])
    arrays: dict[str, Array] = {}
    turns: list[Array] = []
    sessions = []
    precision = ""
    begin = clock()

    beside = _made_ready(question, backend, options, feeds, {} if ready is None else ready, clock)
    fewest, most = 2, question["most_calls"]
    if beside is not None:  # the fastest of many calls is faster than that of few, so both models make as many
        fewest = most = max(fewest, min(most, -(-question["budget_ns"] // beside.call_ns)))

    def turn(call: Callable[[], object]) -> Array:
        durations: list[int] = []
        spent = 0
        while len(durations) < fewest or (len(durations) < most and spent < question["budget_ns"]):
            durations.append(_timed(call, clock))
            spent += durations[-1]
        return np.array(durations, np.int64)

    for index in range(question["sessions"]):
        if index and clock() - begin > question["total_ns"]:
            break
        compiled = backend.compile(Path(question["model"]), options)
        try:
            call = compiled.bind(feeds)
            call()
            began = clock()
            for index_in_session in range(question["turns"]):
                place = len(turns)
                paired = beside is not None and place % 2
                if index_in_session and not paired and clock() - began > question["total_ns"]:
                    break
                # The second may find a warmer machine, so the order alternates.
                if beside is not None and not place % 2:
                    arrays[f"beside_{place}"] = turn(beside.call)
                turns.append(turn(call))
                if beside is not None and place % 2:
                    arrays[f"beside_{place}"] = turn(beside.call)
            layers = compiled.layers() if options.profile else ()
            precision = compiled.executed_precision
        finally:
            compiled.close()
        if options.profile and not any(layer.time_ns for layer in layers):
            raise OptionError(f"backend {question['backend']!r} has no layer times of {question['model']}")
        sessions.append([asdict(layer) for layer in layers])
    arrays |= {f"calls_{place}": durations for place, durations in enumerate(turns)}
    version = backend.availability(options.device).version
    return {"sessions": sessions, "executed_precision": precision, "backend_version": version}, arrays


def _made_ready(
    question: Message,
    backend: Backend,
    options: CompileOptions,
    feeds: Mapping[str, Array],
    ready: dict[str, Ready],
    clock: Callable[[], int],
) -> Ready | None:
    """Return the model that runs beside others, compiled and called; reuse the last one if it is the same."""
    path = question["beside"]
    if not path:
        return None
    if path not in ready:
        for other in ready.values():
            other.compiled.close()
        ready.clear()
        compiled = backend.compile(Path(path), options)
        call = compiled.bind(feeds)
        ready[path] = Ready(compiled, call, min(_timed(call, clock) for _ in range(_WARM_UP)))
    return ready[path]


def _timed(call: Callable[[], object], clock: Callable[[], int]) -> int:
    start = clock()
    call()
    return max(1, clock() - start)


def main() -> None:
    """Serve the parent process."""
    serve_parent({"profile": partial(run_sessions, ready={})})


if __name__ == "__main__":
    main()
