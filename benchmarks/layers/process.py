"""The parent's side of `benchmarks.layers.worker`: one question to one process, which is gone afterwards."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from backends.base import Array, CompileOptions, LayerInfo
from benchmarks.errors import WorkerError
from benchmarks.layers import worker
from benchmarks.process.channel import Channel, ChannelClosedError, ChannelTimeoutError, Message
from benchmarks.process.child import package_environment

__all__ = ["Ran", "RunSessions", "run_in_process"]

_LAST_WORDS_BYTES = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """What a process tells of the sessions in which it compiled and ran one model.

    Parameters
    ----------
    calls_ns : tuple of tuple of int
        Nanoseconds of the calls of each session, without its first.
    layers : tuple of tuple of LayerInfo
        Of each session; empty where it was not profiled.
    executed_precision : str
        Read back from the runtime.
    backend_version : str or None
        Of the runtime.
    """

    calls_ns: tuple[tuple[int, ...], ...]
    layers: tuple[tuple[LayerInfo, ...], ...]
    executed_precision: str
    backend_version: str | None


class RunSessions(Protocol):
    """How a model is run in a process of its own: an argument, so that tests can simulate one."""

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
    ) -> Ran:
        """Compile and run `model` `sessions` times over, see `run_in_process`."""


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
    timeout_s: float = 600.0,
) -> Ran:
    """Run one model in a process of its own.

    Parameters
    ----------
    backend : str
        Name in `backends.registry`.
    model : Path
        ONNX file.
    options : CompileOptions
        With ``profile``, its layers are timed.
    feeds : Mapping of str to ndarray
        Inputs of a call.
    sessions : int, default=1
        How often it is compiled and run, at most.
    most_calls : int, default=300
        A session ends after so many calls.
    budget_s : float, default=2.0
        Or after so many seconds of calls, but not before two.
    total_s : float, default=20.0
        No session but the first is begun after so many seconds: compiling may take long.
    timeout_s : float, default=600.0
        Seconds until the process is killed.

    Raises
    ------
    WorkerError
        The backend refuses the model or the options, or the process died or hung.
    """
    question = {
        "backend": backend,
        "model": str(model.resolve()),
        "options": asdict(options),
        "sessions": sessions,
        "most_calls": most_calls,
        "budget_ns": round(1e9 * budget_s),
        "total_ns": round(1e9 * total_s),
    }
    answer, arrays = _ask(question, feeds, f"{backend} on {model}", timeout_s)
    return Ran(
        calls_ns=tuple(tuple(np.asarray(arrays[f"calls_{index}"]).tolist()) for index in range(len(arrays))),
        layers=tuple(
            tuple(LayerInfo(**{**layer, "nodes": tuple(layer["nodes"])}) for layer in layers)
            for layers in answer["sessions"]
        ),
        executed_precision=answer["executed_precision"],
        backend_version=answer["backend_version"],
    )


def _ask(question: Message, feeds: Mapping[str, Array], who: str, timeout_s: float) -> tuple[Message, dict[str, Array]]:
    with tempfile.TemporaryFile() as said:
        # -P: a folder called `backends` in the user's working directory is not ours.
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", worker.__name__, str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            env=package_environment() | {"OMP_NUM_THREADS": str(question["options"]["threads"])},
            start_new_session=True,
            bufsize=0,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        peer = os.pidfd_open(process.pid) if hasattr(os, "pidfd_open") else None
        try:
            channel = Channel(process.stdout.fileno(), process.stdin.fileno(), peer=peer)
            channel.send(question, feeds, timeout_s=timeout_s)
            answer, arrays = channel.receive(timeout_s=timeout_s)
        except ChannelTimeoutError as error:
            raise WorkerError(f"{who}: no layers within {timeout_s:g} s; its process was killed") from error
        except ChannelClosedError as error:
            _end(process)
            raise WorkerError(_obituary(who, process.returncode, said.fileno())) from error
        finally:
            _end(process)
            process.stdin.close()
            process.stdout.close()
            if peer is not None:
                os.close(peer)
    if "error" in answer:
        raise WorkerError(answer["error"], answer["kind"])
    return answer, arrays


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the process and what it has started, and wait for it; a second call does nothing."""
    if process.returncode is None:
        with suppress(PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _obituary(who: str, code: int, said: int) -> str:
    size = os.fstat(said).st_size
    text = os.pread(said, _LAST_WORDS_BYTES, max(0, size - _LAST_WORDS_BYTES)).decode(errors="replace")
    lines = [words for line in text.splitlines() if (words := "".join(filter(str.isprintable, line)).strip())]
    words = f"; its last words: {lines[-1][:200]}" if lines else ""
    how = f"ended with exit code {code}" if code >= 0 else f"was killed by signal {-code}"
    return f"{who}: its process {how} while its layers were profiled{words}"
