"""The parent's handle on a measured process: start, ask, let rest, bury."""

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
from typing import Literal, Protocol

import numpy as np

from backends.base import Array
from backends.errors import one_line
from benchmarks.errors import WorkerError
from benchmarks.machine.affinity import format_cores
from benchmarks.process import worker as worker_module
from benchmarks.process.channel import Channel, ChannelClosedError, ChannelGarbageError, ChannelTimeoutError, Message
from benchmarks.process.warmup import WarmUpLimits
from benchmarks.records.measurement import Memory
from benchmarks.subject.subject import SubjectSpec

__all__ = ["Closing", "Launch", "Loaded", "MeasuredProcess", "MeasuredWorker", "Warm", "package_environment"]

_PACKAGES = Path(__file__).resolve().parents[2]
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
# Elsewhere nothing kills a stopped process whose parent died, so there it only waits for its next question.
_CAN_STOP = sys.platform == "linux"
_LAST_WORDS_BYTES = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A model that is compiled and ran once; durations in nanoseconds."""

    import_ns: int
    load_ns: int
    first_run_ns: int
    executed_precision: str
    properties: dict[str, str]
    backend_version: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Warm:
    """How warming up went; `calls_ns` holds at most the first thousand of `n_calls` calls."""

    calls_ns: tuple[int, ...]
    n_calls: int
    total_ns: int
    ended: Literal["steady", "budget"]
    latency_ns: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Closing:
    """What a process used until its end."""

    cpu_ns: int
    involuntary_switches: int
    memory: Memory


class MeasuredWorker(Protocol):
    """A measured process as the runner sees it; every question may raise `WorkerError`."""

    @property
    def pid(self) -> int:
        """Process id."""

    def load(self, feeds: Mapping[str, Array]) -> Loaded:
        """Import the runtime, compile, bind `feeds`, run once."""

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Answer other feeds."""

    def warm_up(self, limits: WarmUpLimits) -> Warm:
        """Call until steady."""

    def block(self, n_calls: int, n_dropped: int) -> tuple[int, ...]:
        """Make `n_dropped` calls, then `n_calls` whose nanoseconds are returned."""

    def rest(self) -> None:
        """Use no CPU at all until `wake`."""

    def wake(self) -> None:
        """End a rest."""

    def finish(self) -> Closing:
        """Sum up; no question follows."""

    def close(self) -> None:
        """End the process and wait for it; a second call does nothing."""


class Launch(Protocol):
    """How a measured process is started: an argument, so that tests can simulate one."""

    def __call__(self, spec: SubjectSpec, *, timeout_s: float) -> MeasuredWorker:
        """Start a process for `spec` that must answer each question within `timeout_s` seconds."""


class MeasuredProcess:
    """A process of its own for one model; implements `MeasuredWorker`.

    Linux kills it when the thread that started it ends.

    Parameters
    ----------
    spec : SubjectSpec
        What it measures.
    timeout_s : float
        Seconds for each answer; then it is killed and `WorkerError` raised.
    """

    def __init__(self, spec: SubjectSpec, *, timeout_s: float) -> None:
        self._spec = spec
        self._timeout_s = timeout_s
        self._who = f"{spec.backend} on {spec.model}"
        self._resting = False
        threads = dict.fromkeys(_THREAD_VARIABLES, str(spec.options.threads))
        cores = [] if spec.cores is None else [format_cores(spec.cores)]
        # Closed by `close`, like the process and its pipes.
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115
        # -P: a folder called `backends` in the user's working directory is not ours.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", worker_module.__name__, *cores],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env=package_environment() | threads,
            start_new_session=True,
            bufsize=0,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        # A process that died is noticed although children of its own may hold its end of the pipes.
        self._peer = os.pidfd_open(self.pid) if hasattr(os, "pidfd_open") else None
        self._channel = Channel(self._process.stdout.fileno(), self._process.stdin.fileno(), peer=self._peer)

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def load(self, feeds: Mapping[str, Array]) -> Loaded:
        """Import the runtime, compile, bind `feeds`, run once."""
        prepared, _ = self._ask("prepare", {"backend": self._spec.backend}, feeds)
        model = str(self._spec.model.resolve())
        loaded, _ = self._ask("load", {"model": model, "options": asdict(self._spec.options)})
        return Loaded(**prepared, **loaded)

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Answer other feeds."""
        return self._ask("run", {}, feeds)[1]

    def warm_up(self, limits: WarmUpLimits) -> Warm:
        """Call until steady."""
        answer, arrays = self._ask("warm_up", {"limits": asdict(limits)})
        return Warm(calls_ns=_durations(arrays["calls_ns"]), **answer)

    def block(self, n_calls: int, n_dropped: int) -> tuple[int, ...]:
        """Make `n_dropped` calls, then `n_calls` whose nanoseconds are returned."""
        _, arrays = self._ask("block", {"calls": n_calls, "dropped": n_dropped})
        return _durations(arrays["calls_ns"])

    def compile_cached(self, folder: Path) -> Message:
        """Import the runtime and compile through a cache in `folder`; see `CompileCost`."""
        self._ask("prepare", {"backend": self._spec.backend})
        options, model = asdict(self._spec.options), str(self._spec.model.resolve())
        return self._ask("compile_cached", {"model": model, "options": options, "folder": str(folder)})[0]

    def scenario(self, question: Message, streams: int) -> tuple[Message, dict[str, Array]]:
        """Put a load on the warm model with so many calls at once; see `benchmarks.scenarios.run_scenario`."""
        return self._ask("scenario", {"question": question, "streams": streams})

    def rest(self) -> None:
        """Stop the process: threads of a runtime that wait by spinning burn nothing while the other model is timed."""
        if _CAN_STOP and not self._resting:
            os.kill(self.pid, signal.SIGSTOP)
            os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        self._resting = True

    def wake(self) -> None:
        """Let the process go on."""
        if _CAN_STOP and self._resting:
            os.kill(self.pid, signal.SIGCONT)
        self._resting = False

    def finish(self) -> Closing:
        """Sum up; no question follows."""
        answer, _ = self._ask("finish", {})
        memory = Memory(
            **{name: answer.pop(name) for name in ("baseline_bytes", "peak_bytes", "weights_bytes", "phases")}
        )
        return Closing(memory=memory, **answer)

    def close(self) -> None:
        """Kill the process and its children, and wait for it; a second call does nothing."""
        self._kill()
        for pipe in (self._process.stdin, self._process.stdout, self._stderr):
            assert pipe is not None
            pipe.close()
        if self._peer is not None:
            os.close(self._peer)
            self._peer = None

    def _kill(self) -> None:
        if self._process.returncode is None:
            # The group is ours as long as its leader was not waited for. Where all of it ended by itself, macOS
            # refuses and Linux does not mind.
            with suppress(PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
            self._process.wait()

    def _ask(
        self, command: str, question: Message, arrays: Mapping[str, Array] | None = None
    ) -> tuple[Message, dict[str, Array]]:
        try:
            self._channel.send({"command": command, **question}, arrays, timeout_s=self._timeout_s)
            answer, results = self._channel.receive(timeout_s=self._timeout_s)
        except ChannelTimeoutError as error:
            self._kill()
            raise WorkerError(
                f"{self._who}: no answer to {command!r} in {self._timeout_s:g} s; its process was killed"
            ) from error
        except ChannelGarbageError as error:
            self._kill()
            raise WorkerError(
                f"{self._who}: its answer to {command!r} is garbage (something in the process writes where it must "
                f"not); its process was killed: {one_line(error)}"
            ) from error
        except ChannelClosedError as error:
            raise WorkerError(self._obituary(command)) from error
        if "error" in answer:
            raise WorkerError(answer["error"], answer["kind"])
        return answer, results

    def _obituary(self, command: str) -> str:
        self._kill()  # the pipe is closed, so it ends or has ended; this changes no exit code that was set
        code = self._process.returncode
        self._stderr.seek(max(0, self._stderr.seek(0, os.SEEK_END) - _LAST_WORDS_BYTES))
        said = self._stderr.read().decode(errors="replace").splitlines()
        lines = [words for line in said if (words := "".join(filter(str.isprintable, line)).strip())]
        words = f"; its last words: {lines[-1][:200]}" if lines else ""
        if code >= 0:
            return f"{self._who}: its process ended with exit code {code} during {command!r}{words}"
        name = signal.Signals(-code).name if -code in list(signal.Signals) else f"signal {-code}"
        memory = " (out of memory?)" if -code == signal.SIGKILL else ""
        return f"{self._who}: its process was killed by {name}{memory} during {command!r}{words}"


def package_environment() -> dict[str, str]:
    """Give an environment for a child in which our packages are found, and nothing else is changed."""
    path = os.pathsep.join(filter(None, (str(_PACKAGES), os.getenv("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path}


def _durations(samples: Array) -> tuple[int, ...]:
    return tuple(np.asarray(samples, np.int64).tolist())
