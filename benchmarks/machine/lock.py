"""One measurement at a time on a machine, whoever runs it: a second one waits and says for whom."""

from __future__ import annotations

import getpass
import json
import os
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from benchmarks.errors import BenchmarkError, MachineBusyError

__all__ = ["LOCK_VARIABLE", "lock_path", "machine_lock"]

LOCK_VARIABLE = "PRUNE_DEPLOY_LOCK"
"""Environment variable with the path of the lock file, for users whose temporary folders differ."""

_NAME = "prune-deploy.lock"
_FIRST_LINE = "prune-deploy machine lock\n"
_MOST_BYTES = 4096
_POLL_S = 0.25
_LOOKS_FOR_A_NAME = 8
_ATTEMPTS = 50
_ATTEMPT_S = 0.01

_held: dict[tuple[int, int], int] = {}  # (device, inode) of the locks of this process -> descriptor
_guard = threading.Lock()


def lock_path() -> Path:
    """Return the lock file of this machine: what `LOCK_VARIABLE` says, else a fixed name in the temporary folder."""
    named = os.environ.get(LOCK_VARIABLE)
    return Path(named) if named else Path(tempfile.gettempdir()) / _NAME


@contextmanager
def machine_lock(
    purpose: str,
    path: Path | None = None,
    wait_s: float | None = None,
    say: Callable[[str], object] | None = None,
) -> Iterator[None]:
    """Hold the machine for one measurement.

    The lock belongs to the process and ends with it, however it ends; children do not keep it. The file stays and means
    nothing by itself. It is not re-entrant: a process that holds the lock and asks again gets an error, since two
    measurements of one process would overlap as well.

    Parameters
    ----------
    purpose : str
        What is done meanwhile, for those who wait, for example ``"deploy bench model.onnx"``.
    path : Path, default=None
        The file; by default `lock_path`.
    wait_s : float, default=None
        Seconds to wait at most, 0 for not at all; by default as long as it takes.
    say : callable, default=None
        Receives once, in one line, for whom this waits.

    Raises
    ------
    MachineBusyError
        Another process still measures after `wait_s`, or this one holds the lock already.
    BenchmarkError
        The file cannot be used as a lock, or the system has no such locks.
    """
    file = path or lock_path()
    deadline = None if wait_s is None else time.monotonic() + wait_s
    key = descriptor = None
    while key is None:
        descriptor = _open(file)
        try:
            _refuse_own(descriptor, file)
            _acquire(descriptor, file, deadline, say)
            key = _keep(descriptor, file)
        finally:
            if key is None:
                os.close(descriptor)
    assert descriptor is not None
    try:
        _write(descriptor, purpose)
        yield
    finally:
        _release(key)


def _open(file: Path) -> int:
    # No link is followed, and an existing file is opened without O_CREAT: in a folder that everybody may write to,
    # Linux can refuse O_CREAT on the file of another user, whatever its mode.
    flags = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)
    for attempt in range(_ATTEMPTS):
        try:
            descriptor = os.open(file, flags)
            break
        except FileNotFoundError:
            if _create(file, flags):
                continue
        except PermissionError as error:
            # Its creator may just be about to open it to everybody.
            if attempt == _ATTEMPTS - 1:
                raise _unusable(file, "this user may not write to it") from error
            time.sleep(_ATTEMPT_S)
        except OSError as error:
            raise _unusable(file, "it is a link" if file.is_symlink() else error.strerror or "") from error
    else:
        raise _unusable(file, "it comes and goes")
    status = os.fstat(descriptor)
    problem = None
    if not stat.S_ISREG(status.st_mode):
        problem = "it is not a regular file"
    elif status.st_nlink > 1:
        problem = "it is a second name of another file"
    elif (text := os.pread(descriptor, _MOST_BYTES, 0)) and not text.startswith(_FIRST_LINE.encode()):
        problem = "it holds something else"
    if problem is not None:
        os.close(descriptor)
        raise _unusable(file, problem)
    return descriptor


def _create(file: Path, flags: int) -> bool:
    try:
        descriptor = os.open(file, flags | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        return True
    except OSError as error:
        raise _unusable(file, f"it cannot be created: {error.strerror}") from error
    try:
        os.fchmod(descriptor, 0o666)  # whatever the umask: other users wait for the same file
    finally:
        os.close(descriptor)
    return True


def _refuse_own(descriptor: int, file: Path) -> None:
    with _guard:
        if _key(descriptor) in _held:
            raise MachineBusyError(f"this process is measuring already and holds {file}")


def _acquire(descriptor: int, file: Path, deadline: float | None, say: Callable[[str], object] | None) -> None:
    try:
        import fcntl
    except ImportError as error:
        raise BenchmarkError("this system has no locks that end with their process") from error

    attempts = 0
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pass
        except OSError as error:
            raise _unusable(file, f"its file system cannot lock: {error.strerror}") from error
        else:
            return
        attempts += 1
        holder = _holder(descriptor)
        if deadline is not None and time.monotonic() >= deadline:
            raise MachineBusyError(f"the machine is taken by {holder or 'another process'}; nothing was measured")
        # A holder writes who it is just after it has got the lock.
        if say is not None and (holder is not None or attempts >= _LOOKS_FOR_A_NAME):
            say(f"waiting for {holder or 'another process'}")
            say = None
        if say is None and deadline is None:
            fcntl.flock(descriptor, fcntl.LOCK_EX)  # costs the one who measures nothing
            return
        pause = _POLL_S if say is None else _ATTEMPT_S
        time.sleep(pause if deadline is None else max(0.0, min(pause, deadline - time.monotonic())))


def _keep(descriptor: int, file: Path) -> tuple[int, int] | None:
    """Take note of a lock that was got; None where its file was removed meanwhile and the lock means nothing."""
    key = _key(descriptor)
    try:
        now = file.stat(follow_symlinks=False)
    except FileNotFoundError:
        return None
    if (now.st_dev, now.st_ino) != key:
        return None
    with _guard:
        _held[key] = descriptor
    return key


def _key(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


def _write(descriptor: int, purpose: str) -> None:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())  # a user without a name, as in many containers
    since = datetime.now().astimezone().isoformat(timespec="seconds")
    facts = {"pid": os.getpid(), "command": purpose[:200], "user": user, "since": since}
    text = (_FIRST_LINE + json.dumps(facts) + "\n").encode()
    with suppress(OSError):  # a full disk: the lock holds without a name
        os.pwrite(descriptor, text, 0)
        os.ftruncate(descriptor, len(text))


def _holder(descriptor: int) -> str | None:
    """Name the holder in one line of printable text; the file may have been written by anybody."""
    try:
        _, line, *_ = os.pread(descriptor, _MOST_BYTES, 0).decode().split("\n")
        facts = json.loads(line)
        pid, user, since = int(facts["pid"]), facts["user"], datetime.fromisoformat(facts["since"]).astimezone()
        text = f"pid {pid} ({facts['command']}) of {user}, since {_when(since)}"
    except (ValueError, KeyError, TypeError, OverflowError):
        return None
    return "".join(letter for letter in text if letter.isprintable())[:400]


def _when(since: datetime) -> str:
    today = datetime.now(since.tzinfo).date() == since.date()
    return since.strftime("%H:%M" if today else "%Y-%m-%d %H:%M")


def _release(key: tuple[int, int]) -> None:
    with _guard:
        descriptor = _held.pop(key, None)
    if descriptor is None:
        return  # a forked child leaves the block of its parent
    import fcntl

    with suppress(OSError):
        os.ftruncate(descriptor, 0)
    # Closing alone would leave the lock to copies of the descriptor in processes that were forked around Python.
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


def _leave_to_parent() -> None:
    """In a forked child: the lock is the parent's."""
    global _guard
    _guard = threading.Lock()
    for descriptor in _held.values():
        os.close(descriptor)
    _held.clear()


def _unusable(file: Path, why: str) -> BenchmarkError:
    return BenchmarkError(f"{file} cannot be the machine's lock: {why}; set {LOCK_VARIABLE} to another path")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)
