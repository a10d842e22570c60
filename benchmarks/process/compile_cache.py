"""Compile a model into a file, and load it from there: what ``--cold`` measures."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from backends.base import Backend, CompileOptions
from backends.errors import ArtefactError
from benchmarks.records.measurement import CompileCost

__all__ = ["compile_and_keep", "load_kept"]

Clock = Callable[[], int]


def compile_and_keep(
    backend: Backend, model: Path, options: CompileOptions, file: Path, *, clock: Clock = time.perf_counter_ns
) -> CompileCost:
    """Compile a model and write an artefact that the runtime can load again.

    Parameters
    ----------
    backend : Backend
        Its runtime should already be loaded, or loading it is timed too.
    model : Path
        ONNX file.
    options : CompileOptions
        Precision, threads and device.
    file : Path
        Written if the runtime can export a compiled model.
    clock : callable
        Returns nanoseconds.

    Returns
    -------
    CompileCost
        ``reason`` says why nothing was written; a full disk is such a reason.

    Raises
    ------
    BackendError
        The model cannot be compiled.
    """
    start = clock()
    compiled = backend.compile(model, options)
    compiled_ns = max(1, clock() - start)
    stored_bytes, reason = None, backend.why_no_artefacts
    try:
        if not reason:
            stored_bytes = file.write_bytes(compiled.artefact())
    except ArtefactError as error:
        reason = str(error)
    except OSError as error:
        reason = f"it cannot be stored in {file.parent}: {error.strerror or error}"
    finally:
        compiled.close()
    return CompileCost(compiled_ns=compiled_ns, stored_bytes=stored_bytes, from_cache=False, reason=reason)


def load_kept(
    backend: Backend,
    model: Path,
    options: CompileOptions,
    file: Path,
    *,
    compiled_ns: int,
    clock: Clock = time.perf_counter_ns,
) -> CompileCost:
    """Load the file written by `compile_and_keep`.

    Parameters
    ----------
    backend, model, options, file, clock
        See `compile_and_keep`.
    compiled_ns : int
        Nanoseconds that compiling took.

    Raises
    ------
    ArtefactError
        The runtime rejects its own artefact.
    """
    start = clock()
    blob = file.read_bytes()
    backend.import_artefact(blob, model, options).close()
    loaded_ns = max(1, clock() - start)
    return CompileCost(compiled_ns=compiled_ns, loaded_ns=loaded_ns, stored_bytes=len(blob), from_cache=True)
