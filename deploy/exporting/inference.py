"""Run a compiled ONNX file in a separate process, so that the calling process loads no runtime."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from backends import errors
from backends.base import Array, CompileOptions, TensorSpec
from backends.errors import RunError
from benchmarks.errors import WorkerError
from benchmarks.process import worker
from benchmarks.process.child import Conversation

__all__ = ["RemoteModel", "compiled_elsewhere"]


@dataclass(frozen=True, slots=True)
class RemoteModel:
    """A model that is compiled in another process.

    Parameters
    ----------
    inputs, outputs : tuple of TensorSpec
        As the backend reports them.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    process: Conversation

    @property
    def fixed_batch(self) -> int | None:
        """Batch size baked into the file; None if it is free."""
        first = next((spec.shape[0] for spec in self.inputs if spec.shape), None)
        return first if isinstance(first, int) else None

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run once.

        Parameters
        ----------
        feeds : Mapping of str to ndarray
            One array for each input, of its shape and dtype.

        Returns
        -------
        dict of str to ndarray
            By output name.

        Raises
        ------
        BackendError
            As raised by the backend there; `RunError` if the process ended or did not answer in time.
        """
        return _ask(self.process, "run", {}, feeds)[1]


@contextmanager
def compiled_elsewhere(
    model: Path, backend: str, options: CompileOptions | None = None, *, timeout_s: float = 600.0
) -> Iterator[RemoteModel]:
    """Compile `model` in a separate process, which ends with the ``with`` block.

    Parameters
    ----------
    model : Path
        ONNX file.
    backend : str
        Name in `backends.registry`. For ONNX Runtime and OpenVINO the process loads no torch.
    options : CompileOptions, optional
        Defaults to fp32, one thread, CPU.
    timeout_s : float, default=600.0
        Seconds for compiling, and for each run; then the process is killed and `RunError` raised.

    Raises
    ------
    BackendError
        As raised by the backend there.
    """
    job = {"model": str(model.resolve()), "backend": backend, "options": asdict(options or CompileOptions())}
    with Conversation(["-m", worker.__name__], who=f"{backend} on {model}", timeout_s=timeout_s) as process:
        specs, _ = _ask(process, "compile", job, {})
        inputs, outputs = (
            tuple(TensorSpec(name=s["name"], shape=tuple(s["shape"]), dtype=s["dtype"]) for s in specs[side])
            for side in ("inputs", "outputs")
        )
        yield RemoteModel(inputs, outputs, process)


def _ask(
    process: Conversation, command: str, question: dict[str, Any], arrays: Mapping[str, Array]
) -> tuple[dict[str, Any], dict[str, Array]]:
    try:
        return process.ask(command, question, arrays)
    except WorkerError as error:
        raise getattr(errors, error.kind, RunError)(str(error)) from error
