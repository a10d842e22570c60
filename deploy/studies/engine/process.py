"""The process of one job: watched, and ended with all its children when it passes a limit."""

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
    """One child; implements `deploy.studies.engine.schedule.RunningJob`.

    Parameters
    ----------
    program : sequence of str
        What follows ``python -m``: a module and its arguments.
    log : Path
        Receives what it prints, after what is there already.
    environment : Mapping of str to str, optional
        Variables to set.
    scratch : Path, optional
        Folder of its temporary files, removed by `close`; a new one by default.
    time_s, memory_gb : float, optional
        Seconds, and resident gigabytes of it and its children, after which it is ended.
    limit : callable, optional
        Returns why it is to be ended; empty while it may go on.
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
        # Not in a job's own folder: names of sockets, which some libraries make there, must be short.
        self.scratch = scratch or Path(tempfile.mkdtemp(prefix="prune-deploy-"))
        self._start = time.monotonic()
        variables = {**(environment or {}), "TMPDIR": str(self.scratch)}
        self._child = Child(["-m", *program], who="a job", environment=variables, log=log)
        self.closed = False

    @property
    def seconds(self) -> float:
        """Time since it was started."""
        return round(time.monotonic() - self._start, 3)

    def poll(self) -> str | None:
        """Return None while it runs, then why it ended; empty when it ended well."""
        code = self._child.poll()
        if code is None:
            reason = self._passed_limit()
            self.limited = bool(reason)
            if reason:
                self._child.kill()
            return reason or None
        return self._child.exit_reason() if code else ""

    def close(self) -> None:
        """End it with its children and remove its temporary files; a second call does nothing."""
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
    """Add up the resident memory of a process and its children."""
    total = 0
    with suppress(psutil.NoSuchProcess):
        parent = psutil.Process(pid)
        for process in (parent, *parent.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                total += process.memory_info().rss
    return total
