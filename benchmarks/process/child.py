"""Child processes from the parent's side: start, ask, wait, pause, kill, and tell how one ended.

Every child runs the Python of this process with our packages first, so that nothing in the current folder or in
``PYTHONPATH`` can shadow them. It leads its own session: Ctrl-C reaches only the parent, and killing the child kills
everything it has started. It ends with its parent; the child's side is `benchmarks.process.serving`.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from backends.base import Array
from backends.errors import one_line
from benchmarks.errors import NoAnswerError, WorkerError
from benchmarks.machine.state import state_folder
from benchmarks.process.channel import Channel, ChannelClosedError, ChannelGarbageError, ChannelTimeoutError, Message
from benchmarks.process.program import start
from benchmarks.process.waiting import look

__all__ = [
    "Child",
    "Conversation",
    "exit_reason",
    "last_words",
    "package_environment",
    "sleeping_environment",
    "thread_environment",
]

_PACKAGES = Path(__file__).resolve().parents[2]
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
_WAIT_POLICY = "OMP_WAIT_POLICY"
_SLEEPS = "PRUNE_DEPLOY_SLEEPS"
"""Set beside a wait policy that is ours and not the user's."""
# On other systems nothing kills a stopped process whose parent died, so there it only waits for its next question.
_CAN_STOP = sys.platform == "linux"
_LAST_WORDS_BYTES = 1 << 16
_GRACE_S = 5.0


class Child:
    """A process for one job; use it in a ``with`` statement, which kills it at the end.

    Its standard input is a pipe that stays open as long as this process lives, see `serving.end_with_parent`. Linux
    kills it when the thread that started it ends.

    Parameters
    ----------
    program : sequence of str
        Arguments of ``python``: ``["-m", "package.module", "argument"]`` or ``["-c", "code"]``.
    who : str, default="a child process"
        What it does, as the subject of its error messages.
    environment : Mapping of str to str, optional
        Variables to set or replace.
    folder : Path, optional
        Working directory; by default the current one.
    log : Path, optional
        A file to which its standard output and error are appended; by default a temporary one.
    terminal : bool, default=False
        Leave both on the terminal instead; there are no last words then.
    """

    def __init__(
        self,
        program: Sequence[str],
        *,
        who: str = "a child process",
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
        log: Path | None = None,
        terminal: bool = False,
    ) -> None:
        self.who = who
        self._resting = False
        variables = {**package_environment(), **(environment or {})}
        # `close` closes it, like the process and its pipes.
        self._log: IO[bytes] | None = None
        if not terminal:
            self._log = tempfile.TemporaryFile() if log is None else log.open("a+b")  # noqa: SIM115
        self._process = start(
            [sys.executable, "-P", *program],
            stdin=subprocess.PIPE,
            stdout=self._stdout(),
            stderr=self._log,
            env=variables,
            cwd=folder,
            start_new_session=True,
            bufsize=0,
        )
        # Notices a dead process even if its own children hold its end of the pipes.
        self._peer = os.pidfd_open(self.pid) if hasattr(os, "pidfd_open") else None

    def _stdout(self) -> IO[bytes] | int | None:
        return self._log

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def poll(self) -> int | None:
        """Return None while it runs, else its exit code (negative: killed by a signal), killing all it started."""
        if self._process.returncode is None and self._has_ended(0):
            self.kill()
        return self._process.returncode

    def wait(self, timeout_s: float | None = None) -> int:
        """Wait for its end and return its exit code, negative if a signal killed it.

        A keyboard interrupt is passed on, and the child gets some seconds to end cleanly.

        Raises
        ------
        WorkerError
            It did not end in time and was killed.
        """
        try:
            in_time = self._has_ended(timeout_s)
        except KeyboardInterrupt:
            if self._process.returncode is None:
                os.killpg(self.pid, signal.SIGINT)
                self._has_ended(_GRACE_S)
            self.kill()
            raise
        self.kill()
        if not in_time:
            raise WorkerError(f"{self.who}: did not finish in {timeout_s:g} s; its process was killed")
        return self._process.returncode

    def rest(self) -> None:
        """Stop it so that it uses no CPU, not even by spinning threads, while another process is timed."""
        if _CAN_STOP and not self._resting and self._process.returncode is None:
            # Not its group: the process that watches for the parent's end must keep running.
            os.kill(self.pid, signal.SIGSTOP)
            os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        self._resting = True

    def wake(self) -> None:
        """End a rest."""
        if _CAN_STOP and self._resting and self._process.returncode is None:
            os.kill(self.pid, signal.SIGCONT)
        self._resting = False

    def kill(self) -> None:
        """Kill it and everything it has started, and wait for it; a second call does nothing."""
        if self._process.returncode is None:
            # The group id stays ours until its leader is waited for. If the whole group has already ended, macOS
            # refuses and Linux does not.
            with suppress(PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
            self._process.wait()

    def close(self) -> None:
        """Kill it and close its pipes and log; a second call does nothing."""
        self.kill()
        for pipe in (self._process.stdin, self._process.stdout, self._log):
            if pipe is not None:
                pipe.close()
        if self._peer is not None:
            os.close(self._peer)
            self._peer = None

    def output(self) -> str:
        """Return the end of its standard output and error; empty if they go to a terminal."""
        if self._log is None:
            return ""
        self._log.seek(max(0, self._log.seek(0, os.SEEK_END) - _LAST_WORDS_BYTES))
        return self._log.read().decode(errors="replace")

    def exit_reason(self, during: str = "") -> str:
        """Return how it ended and its last words, in one line: ``"its process was killed by SIGSEGV during 'load'"``.

        It is killed if it has not ended; an exit code already set does not change.

        Parameters
        ----------
        during : str
            The unanswered question.
        """
        self.kill()
        words = last_words(self.output())
        return (
            f"its process {exit_reason(self._process.returncode)}{f' during {during!r}' if during else ''}"
            f"{f'; its last words: {words}' if words else ''}"
        )

    def _has_ended(self, timeout_s: float | None) -> bool:
        """Wait for its end without reaping it, so that its group can still be killed."""
        if self._process.returncode is not None:
            return True
        if self._peer is not None:
            poll = select.poll()
            poll.register(self._peer, select.POLLIN)
            return bool(poll.poll(None if timeout_s is None else 1e3 * timeout_s))
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_s)
        return self._process.returncode is not None


class Conversation(Child):
    """A child that answers questions through `serving.serve`; its printed output is not an answer.

    Parameters
    ----------
    program, who, environment
        See `Child`.
    timeout_s : float
        Time limit in seconds for each answer, after which it is killed and `WorkerError` raised.
    """

    def __init__(
        self,
        program: Sequence[str],
        *,
        who: str,
        timeout_s: float,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(program, who=who, environment=environment)
        self._timeout_s = timeout_s
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._channel = Channel(self._process.stdout.fileno(), self._process.stdin.fileno(), peer=self._peer)

    def _stdout(self) -> int:
        return subprocess.PIPE

    def ask(
        self,
        command: str,
        question: Message | None = None,
        arrays: Mapping[str, Array] | None = None,
        *,
        timeout_s: float | None = None,
    ) -> tuple[Message, dict[str, Array]]:
        """Ask a question and wait for the answer.

        Parameters
        ----------
        command : str
            The child's command that answers.
        question : dict, optional
            JSON-serialisable.
        arrays : Mapping of str to ndarray, optional
            Of any shape; numbers, or text as ``object``.
        timeout_s : float, optional
            Time limit in seconds for this answer, if different.

        Returns
        -------
        (dict, dict)
            The answer, and arrays of any shape.

        Raises
        ------
        WorkerError
            The answer is an error, whose class is the `kind`; or the process died, or did not answer in time
            (`NoAnswerError`).
        """
        timeout_s = self._timeout_s if timeout_s is None else timeout_s
        look()
        try:
            self._channel.send({"command": command, **(question or {})}, arrays, timeout_s=timeout_s)
            answer, results = self._channel.receive(timeout_s=timeout_s)
        except ChannelTimeoutError as error:
            self.kill()
            raise NoAnswerError(
                f"{self.who}: no answer to {command!r} in {timeout_s:g} s; its process was killed"
            ) from error
        except ChannelGarbageError as error:
            self.kill()
            raise WorkerError(
                f"{self.who}: its answer to {command!r} is garbage (something in the process writes where it must "
                f"not); its process was killed: {one_line(error)}"
            ) from error
        except ChannelClosedError as error:
            raise WorkerError(f"{self.who}: {self.exit_reason(command)}") from error
        if "error" in answer:
            raise WorkerError(answer["error"], answer["kind"])
        return answer, results


def exit_reason(code: int) -> str:
    """Return how a process with this exit code ended: ``"ended with exit code 3"`` or ``"was killed by SIGSEGV"``."""
    if code >= 0:
        return f"ended with exit code {code}"
    name = signal.Signals(-code).name if -code in list(signal.Signals) else f"signal {-code}"
    return f"was killed by {name}{' (out of memory?)' if -code == signal.SIGKILL else ''}"


def last_words(text: str, limit: int = 200) -> str:
    """Return the last non-empty line, without control characters and cut at `limit`."""
    lines = ("".join(filter(str.isprintable, line)).strip() for line in reversed(text.splitlines()))
    return next(filter(None, lines), "")[:limit]


def package_environment() -> dict[str, str]:
    """Return an environment in which a child, and anything it starts, finds our packages before any other.

    It also moves torch.compile's cache, which is pickled: by default it is in the temporary folder, under a name that
    anybody may take. What `sleeping_environment` gave this process is left out.
    """
    path = os.pathsep.join(filter(None, (str(_PACKAGES), os.getenv("PYTHONPATH"))))
    ours = {"PYTHONPATH": path, "PYTHONSAFEPATH": "1"}
    left_out = (_WAIT_POLICY, _SLEEPS) if _SLEEPS in os.environ else ()
    theirs = {name: value for name, value in os.environ.items() if name not in left_out}
    return {"TORCHINDUCTOR_CACHE_DIR": str(state_folder() / "inductor"), **theirs, **ours}


def sleeping_environment() -> dict[str, str]:
    """Return the variables that make OpenMP threads sleep while they wait; none if the user has set how they wait.

    They hold for a child that trains, and not for children of its own: what it measures runs as it would elsewhere.
    """
    by_user = _WAIT_POLICY in os.environ and _SLEEPS not in os.environ
    return {} if by_user else {_WAIT_POLICY: "PASSIVE", _SLEEPS: "1"}


def thread_environment(threads: int) -> dict[str, str]:
    """Return the variables that limit the threads of the usual libraries."""
    return dict.fromkeys(_THREAD_VARIABLES, str(threads))
