"""The process that profiles: ``python -m benchmarks.layers.worker``.

It runs a model so often, profiled or not, and answers how long the calls and the layers took.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np

from backends import registry
from backends.base import Array, Backend, CompileOptions
from backends.errors import OptionError
from benchmarks.process.channel import Message
from benchmarks.process.serving import serve_parent

__all__ = ["main", "run_sessions"]


def run_sessions(
    question: Message,
    feeds: Mapping[str, Array],
    *,
    create: Callable[[str], Backend] = registry.create,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> tuple[Message, dict[str, Array]]:
    """Compile and run a model some times over.

    Parameters
    ----------
    question : dict
        ``backend``, ``model``, ``options``; ``sessions``: how often it is compiled and run, but none is begun after
        ``total_ns``; ``most_calls`` and ``budget_ns``: a session ends at whichever comes first, but not before two
        calls.
    feeds : Mapping of str to ndarray
        Inputs of a call.
    create : callable
        Returns the backend of a name.
    clock : callable
        Returns nanoseconds.

    Returns
    -------
    (dict, dict)
        What was executed, and the layers of each session where ``options`` say ``profile``; and the nanoseconds of the
        calls of session ``i`` as array ``calls_i``. The first call of a session is left out.

    Raises
    ------
    OptionError
        The backend has no layer times.
    BackendError
        See `Backend.compile` and `CompiledModel.bind`.
    """
    backend = create(question["backend"])
    options = CompileOptions(**question["options"])
    arrays: dict[str, Array] = {}
    sessions = []
    precision = ""
    begin = clock()
    for index in range(question["sessions"]):
        if index and clock() - begin > question["total_ns"]:
            break
        compiled = backend.compile(Path(question["model"]), options)
        try:
            call = compiled.bind(feeds)
            call()
            durations: list[int] = []
            spent = 0
            while len(durations) < 2 or (len(durations) < question["most_calls"] and spent < question["budget_ns"]):
                start = clock()
                call()
                durations.append(max(1, clock() - start))
                spent += durations[-1]
            layers = compiled.layers() if options.profile else ()
            precision = compiled.executed_precision
        finally:
            compiled.close()
        if options.profile and not any(layer.time_ns for layer in layers):
            raise OptionError(f"backend {question['backend']!r} has no layer times of {question['model']}")
        sessions.append([asdict(layer) for layer in layers])
        arrays[f"calls_{index}"] = np.array(durations, np.int64)
    version = backend.availability(options.device).version
    return {"sessions": sessions, "executed_precision": precision, "backend_version": version}, arrays


def main() -> None:
    """Answer the parent."""
    serve_parent({"profile": run_sessions})


if __name__ == "__main__":
    main()
