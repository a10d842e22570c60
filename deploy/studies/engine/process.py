"""The process of one job, killed with all its children if it exceeds a limit."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from benchmarks.process.child import Child

__all__ = ["JobProcess"]

_GB = 10**9


class JobProcess:
    """One child process; implements `deploy.studies.engine.schedule.RunningJob`.

    Parameters
    ----------
    program : sequence of str
        Arguments of ``python -m``: a module and its arguments.
    log : Path
        File that its output is appended to.
    environment : Mapping of str to str, optional
        Variables to set.
    scratch : Path, optional
        Folder for its temporary files, removed by `close`; default: a new one.
    time_s, memory_gb : float, optional
        Limits in seconds, and in resident gigabytes of it and its children, beyond which it is killed.
    limit : callable, optional
        Returns why to kill it; empty while it may continue.
    """

    def __init__(
        self,
        program: Sequence[str],
        *,
        log: Path,
        environment: Mapping[str, str] | None = None,
        scratch: Path | None = None,
        time_s: float | None = None,
        memory_gb: float | None = None,
        limit: Callable[[], str] | None = None,
    ) -> None:
        self.limited = False
        self.peak_bytes = 0
        self._time_s, self._memory_gb, self._limit = time_s, memory_gb, limit
        # Not in the job's own folder: some libraries create sockets there, whose paths must be short.
        self.scratch = scratch or Path(tempfile.mkdtemp(prefix="prune-deploy-"))
        self._start = time.monotonic()
        variables = {**(environment or {}), "TMPDIR": str(self.scratch)}
        self._child = Child(["-m", *program], who="a job", environment=variables, log=log)
        self.closed = False

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return round(time.monotonic() - self._start, 3)

    def poll(self) -> str | None:
        """Return None while it runs, then why it ended; empty if it succeeded."""
        code = self._child.poll()
        if code is None:
            reason = self._passed_limit()
            self.limited = bool(reason)
            if reason:
                self._child.kill()
            return reason or None
        return self._child.exit_reason() if code else ""

    def close(self) -> None:
        """Kill it with its children and remove its temporary files; a second call does nothing."""
        self._child.close()
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.closed = True

    def _passed_limit(self) -> str:
        if self._memory_gb is not None:
            resident = _resident_bytes(self._child.pid)
            self.peak_bytes = max(self.peak_bytes, resident)
            if resident > self._memory_gb * _GB:
                return f"more than {self._memory_gb:g} GB of memory"
        if self._time_s is not None and self.seconds > self._time_s:
            return f"no end after {self._time_s:g} s"
        return "" if self._limit is None else self._limit()


def _resident_bytes(pid: int) -> int:
    """Return the resident memory of a process and its children."""
    total = 0
    with suppress(psutil.NoSuchProcess):
        parent = psutil.Process(pid)
        for process in (parent, *parent.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                total += process.memory_info().rss
    return total
