"""The process of one network: started, watched, and ended with all its children when a limit is passed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO

import psutil

from benchmarks.process.child import package_environment
from deploy.files.atomic import write_file
from deploy.studies.coverage.clock import last_event
from deploy.studies.coverage.rows import CoverageJob, CoverageRow

__all__ = ["CHILD", "Worker"]

CHILD = "deploy.studies.coverage.child"
_GB = 10**9
_WORDS_LIMIT = 300
_THREADS = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}


class Worker:
    """One running child.

    Parameters
    ----------
    job : CoverageJob
        What it does.
    row_file : Path
        Where its row goes, under a temporary name first.
    """

    def __init__(self, job: CoverageJob, row_file: Path, *, environment: Mapping[str, str] | None = None) -> None:
        self.job = job
        self._row_file = row_file
        self._scratch = tempfile.TemporaryDirectory()
        folder = Path(self._scratch.name)
        self._events = folder / "events.jsonl"
        (folder / "job.json").write_text(job.model_dump_json(), encoding="utf-8")
        self._log: IO[bytes] = (folder / "log.txt").open("w+b")
        # Its temporary files lie in the folder that goes with it, whatever ends it.
        variables = {**package_environment(), **_THREADS, "TMPDIR": str(folder), **(environment or {})}
        self._start = time.monotonic()
        self._peak = 0
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", CHILD, str(folder / "job.json"), str(row_file), str(self._events)],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            env=variables,
            start_new_session=True,
        )

    def poll(self) -> CoverageRow | None:
        """Look at the child once: None while it works, else its row; a child that passed a limit is ended first."""
        code = self._process.poll()
        why = ""
        if code is None and not (why := self._limit_passed()):
            return None
        self._end()
        try:
            return (
                self._finished()
                if code == 0 and self._row_file.is_file()
                else self._epitaph(why or self._how(code), limited=bool(why))
            )
        finally:
            self.close()

    def _finished(self) -> CoverageRow:
        return CoverageRow.model_validate_json(self._row_file.read_text(encoding="utf-8"))

    def _how(self, code: int | None) -> str:
        if code is None or code >= 0:
            return f"ended with exit code {code}{self._last_words()}"
        name = signal.Signals(-code).name if -code in list(signal.Signals) else f"signal {-code}"
        return f"killed by {name}{' (out of memory?)' if -code == signal.SIGKILL else ''}"

    def close(self) -> None:
        """End the child and its children, and clear what it left; a second call does nothing."""
        self._end()
        self._log.close()
        self._scratch.cleanup()

    def _end(self) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _limit_passed(self) -> str:
        limits = self.job.limits
        resident = _resident_bytes(self._process.pid)
        self._peak = max(self._peak, resident)
        if resident > limits.memory_gb * _GB:
            return f"more than {limits.memory_gb:g} GB of memory"
        if time.monotonic() - self._start > limits.time_s:
            return f"no end after {limits.time_s:g} s"
        _, since = last_event(self._events)
        if since is not None and time.time() - since > limits.prune_s:
            return f"no end of the pruning call after {limits.prune_s:g} s"
        return ""

    def _epitaph(self, why: str, *, limited: bool) -> CoverageRow:
        phase, _ = last_event(self._events)
        row = CoverageRow(
            job=self.job,
            outcome="failed",
            reason=why,
            phase=phase,
            limited=limited,
            seconds={"all": round(time.monotonic() - self._start, 3)},
            peak_bytes=self._peak or None,
        )
        write_file(self._row_file, row.model_dump_json(indent=1) + "\n")
        return row

    def _last_words(self) -> str:
        self._log.seek(0)
        lines = [line.strip() for line in self._log.read().decode(errors="replace").splitlines() if line.strip()]
        return f"; its last words: {lines[-1][:_WORDS_LIMIT]}" if lines else ""


def _resident_bytes(pid: int) -> int:
    """Add up the resident memory of a process and its children."""
    total = 0
    with suppress(psutil.NoSuchProcess):
        parent = psutil.Process(pid)
        for process in (parent, *parent.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                total += process.memory_info().rss
    return total
