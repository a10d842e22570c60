"""Answers of a compiled ONNX file, from a process of its own: the process that decides holds no runtime."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from backends import errors
from backends.base import Array, CompileOptions, TensorSpec
from backends.errors import BackendError, RunError
from deploy.export import inference_worker

__all__ = ["RemoteModel", "compiled_elsewhere"]

_PACKAGES = Path(__file__).resolve().parents[2]


class RemoteModel:
    """A model that is compiled in another process.

    Attributes
    ----------
    inputs, outputs : tuple of TensorSpec
        As the backend reports them.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def __init__(self, process: subprocess.Popen[bytes], who: str, stderr: IO[bytes]) -> None:
        self._process = process
        self._who = who
        self._stderr = stderr
        self._expired = threading.Event()

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run once.

        Parameters
        ----------
        feeds : Mapping of str to ndarray
            One array for each input.

        Returns
        -------
        dict of str to ndarray
            By output name.

        Raises
        ------
        BackendError
            As the backend raised it there; `RunError` when the process ended or gave no answer in time.
        """
        _, arrays = self._ask({}, feeds)
        return arrays

    def compile(self, model: Path, backend: str, options: CompileOptions) -> None:
        """Compile; sets `inputs` and `outputs`."""
        specs, _ = self._ask({"model": str(model.resolve()), "backend": backend, "options": asdict(options)}, {})
        self.inputs, self.outputs = (
            tuple(TensorSpec(name=s["name"], shape=tuple(s["shape"]), dtype=s["dtype"]) for s in specs[side])
            for side in ("inputs", "outputs")
        )

    def kill(self) -> None:
        """End the process because its time is over."""
        self._expired.set()
        self._process.kill()

    def _ask(self, message: dict[str, Any], arrays: Mapping[str, Array]) -> tuple[dict[str, Any], dict[str, Array]]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            inference_worker.send(self._process.stdin, message, arrays)
            answer = inference_worker.receive(self._process.stdout)
        except BrokenPipeError as error:
            raise RunError(self._obituary()) from error
        if answer is None:
            raise RunError(self._obituary())
        if "error" in answer[0]:
            kind = getattr(errors, answer[0]["kind"], BackendError)
            raise kind(answer[0]["error"])
        return answer

    def _obituary(self) -> str:
        code = self._process.wait()
        if self._expired.is_set():
            return f"{self._who}: no answer in the time given; its process was killed"
        self._stderr.seek(0)
        lines = [line.strip() for line in self._stderr.read().decode(errors="replace").splitlines() if line.strip()]
        words = f"; its last words: {lines[-1][:200]}" if lines else ""
        ended = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        return f"{self._who}: its process {ended} without an answer{words}"


@contextmanager
def compiled_elsewhere(
    model: Path, backend: str, options: CompileOptions | None = None, *, timeout_s: float = 600.0
) -> Iterator[RemoteModel]:
    """Compile `model` in a process of its own, which ends with the ``with`` block.

    Parameters
    ----------
    model : Path
        ONNX file.
    backend : str
        Name in `backends.registry`. For ONNX Runtime and OpenVINO the process loads no torch.
    options : CompileOptions, optional
        Defaults to fp32, one thread, CPU.
    timeout_s : float, default=600.0
        Seconds for the whole block; then the process is killed and the pending call raises `RunError`.

    Raises
    ------
    BackendError
        As the backend raised it there.
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (str(_PACKAGES), os.getenv("PYTHONPATH"))))}
    # -P: a folder called `backends` in the user's working directory is not ours.
    command = [sys.executable, "-P", "-m", inference_worker.__name__]
    with tempfile.TemporaryFile() as stderr:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, env=environment
        )
        remote = RemoteModel(process, f"{backend} on {model}", stderr)
        alarm = threading.Timer(timeout_s, remote.kill)
        alarm.daemon = True
        alarm.start()
        try:
            remote.compile(model, backend, options or CompileOptions())
            yield remote
        finally:
            alarm.cancel()
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                assert pipe is not None
                with suppress(BrokenPipeError):  # half a question may be left in the buffer
                    pipe.close()
