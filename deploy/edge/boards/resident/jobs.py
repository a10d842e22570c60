"""Jobs on a board: a folder each, named after the request, with the state and what the command printed and wrote.

A running job holds the lock ``alive``, and whoever follows it the lock ``claim``: the kernel releases both however
their process ends. The same request picks up a job that nobody follows, running or finished; if somebody follows it,
another one is started.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

__all__ = ["KEPT_S", "Job", "any_runs", "claim", "end"]

KEPT_S = 24 * 3600.0
"""How long an unfetched result stays valid, and the most that the remains of a killed job are kept."""
_GRACE_S = 15.0
_LOOK_S = 0.05
_MOST_DESCRIPTORS = 4096


class Job:
    """One job.

    Parameters
    ----------
    folder : Path
        Folder of the job.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def result(self) -> Path:
        """Result file of the command."""
        return self.folder / "result"

    @property
    def printed(self) -> Path:
        """Its standard output."""
        return self.folder / "stdout"

    @property
    def log(self) -> Path:
        """Its standard error."""
        return self.folder / "stderr"

    @property
    def state(self) -> dict[str, Any]:
        """``state``: queued, running or done; plus the process and, at the end, the exit code and the time."""
        try:
            found = json.loads((self.folder / "state").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {"state": "broken"}
        return found if isinstance(found, dict) else {"state": "broken"}

    def write_state(self, **facts: object) -> None:
        """Write the state atomically."""
        part = self.folder / "state.part"
        part.write_text(json.dumps(facts), encoding="utf-8")
        part.replace(self.folder / "state")

    def runs(self) -> bool:
        """Return whether its process is running."""
        return _is_held(self.folder / "alive")

    def start(self, argv: list[str], variables: dict[str, str]) -> None:
        """Start it in a session of its own, which outlives the connection.

        Parameters
        ----------
        argv : list of str
            What follows ``deploy``.
        variables : dict of str to str
            Additional environment variables.
        """
        self.write_state(state="queued")
        alive = os.open(self.folder / "alive", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(alive, fcntl.LOCK_EX)
        if os.fork() == 0:
            try:
                self._work(argv, variables, alive)
            finally:
                os._exit(70)
        os.close(alive)  # the lock stays with the child

    def _work(self, argv: list[str], variables: dict[str, str], alive: int) -> None:
        os.setsid()
        os.closerange(3, alive)
        os.closerange(alive + 1, _MOST_DESCRIPTORS)
        # A closed terminal or connection does not end it.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        nothing = os.open(os.devnull, os.O_RDONLY)
        out, log = (os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600) for path in (self.printed, self.log))
        for descriptor, target in ((nothing, 0), (out, 1), (log, 2)):
            os.dup2(descriptor, target)
            os.close(descriptor)
        os.environ.update(variables)
        os.chdir(self.folder)
        self.write_state(state="running", pid=os.getpid(), since=_started(os.getpid()))
        sys.argv = ["deploy", *argv]
        code = 70
        try:
            import_module("deploy.user_errors").guarded(lambda: import_module("deploy.cli").command_line())
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        finally:
            for stream in (sys.stdout, sys.stderr):
                with suppress(OSError):
                    stream.flush()
            self.write_state(state="done", code=code, ended=time.time())
        os._exit(0)

    def end(self) -> bool:
        """End it with SIGTERM, else with SIGKILL, and remove it; return whether it is gone."""
        state = self.state
        pid = state.get("pid")
        for number in (signal.SIGTERM, signal.SIGKILL):
            give_up_s = time.monotonic() + _GRACE_S
            if self.runs() and isinstance(pid, int) and _started(pid) == state.get("since"):
                with suppress(ProcessLookupError):
                    os.kill(pid, number)
            while self.runs() and time.monotonic() < give_up_s:
                time.sleep(_LOOK_S)
        gone = not self.runs()
        if gone:
            shutil.rmtree(self.folder, ignore_errors=True)
        return gone


@contextmanager
def claim(folder: Path, name: str) -> Iterator[tuple[Job, bool]]:
    """Yield a job of this name under an exclusive claim, and whether it is new.

    Parameters
    ----------
    folder : Path
        Folder of all jobs.
    name : str
        Name of the request.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _remove_old(folder)
        number = 0
        while True:
            job = Job(folder / f"{name}-{number}")
            number += 1
            if _is_held(job.folder / "claim"):
                continue
            if job.folder.is_dir() and not job.runs() and job.state["state"] != "done":
                shutil.rmtree(job.folder)  # killed, or the board was switched off
            is_new = not job.folder.is_dir()
            job.folder.mkdir(exist_ok=True)
            mine = os.open(job.folder / "claim", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(mine, fcntl.LOCK_EX)
            break
    try:
        yield job, is_new
    finally:
        os.close(mine)


def any_runs(folder: Path) -> bool:
    """Return whether any job is running."""
    return folder.is_dir() and any(one.is_dir() and Job(one).runs() for one in folder.iterdir())


def end(folder: Path, name: str) -> bool:
    """End one job and remove it; return whether it is gone."""
    job = Job(folder / name)
    return not job.folder.is_dir() or job.end()


def _remove_old(folder: Path) -> None:
    for one in folder.iterdir():
        job = Job(one)
        if not one.is_dir() or job.runs() or _is_held(one / "claim"):
            continue
        # A killed job has no end time.
        ended = job.state.get("ended", one.stat().st_mtime)
        if isinstance(ended, float) and time.time() - ended > KEPT_S:
            shutil.rmtree(one, ignore_errors=True)


def _is_held(path: Path) -> bool:
    """Return whether another process holds a lock."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _started(pid: int) -> str:
    """Return when a process started, in kernel ticks; empty if it is gone or the system does not tell."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    return ""
