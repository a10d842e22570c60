"""Cold start: the cost of compiling a model from scratch, and of loading a stored compilation.

Each is measured in a fresh process, with a temporary cache.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from backends.errors import ArtefactError
from benchmarks.errors import WorkerError
from benchmarks.process.measured import MeasuredProcess
from benchmarks.records.measurement import ColdCosts, CompileCost
from benchmarks.subject.subject import SubjectSpec

__all__ = ["cold_costs"]


def cold_costs(spec: SubjectSpec, *, timeout_s: float = 600.0, say: Callable[[str], None] | None = None) -> ColdCosts:
    """Compile in one fresh process and load in another.

    Parameters
    ----------
    spec : SubjectSpec
        The model to compile.
    timeout_s : float, default=600.0
        Time limit in seconds for each.
    say : callable, optional
        Receives one short line.

    Raises
    ------
    WorkerError
        The model cannot be compiled, or the process died or hung.
    """
    if say is not None:
        say(f"{spec.label or spec.model.stem}: compiling from nothing, and loading what was compiled")
    with tempfile.TemporaryDirectory(prefix="prune-deploy-cold-") as folder:
        file = Path(folder) / "compiled"
        first = _in_process(spec, file, None, timeout_s)
        if first.stored_bytes is None:
            return ColdCosts(without_cache=first)
        try:
            return ColdCosts(without_cache=first, with_cache=_in_process(spec, file, first.compiled_ns, timeout_s))
        except WorkerError as error:
            if error.kind != ArtefactError.__name__:
                raise
            reason = f"what was stored cannot be loaded: {error}"
            return ColdCosts(without_cache=first.model_copy(update={"reason": reason}))


def _in_process(spec: SubjectSpec, file: Path, compiled_ns: int | None, timeout_s: float) -> CompileCost:
    process = MeasuredProcess(spec, timeout_s=timeout_s)
    try:
        return process.compile_cached(file, compiled_ns)
    finally:
        process.close()
