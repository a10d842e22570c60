"""Machine-wide lock: one measurement at a time, whoever runs it; a second one waits and says for whom.

The file is open to all users of the machine. Another user can hold it, but not for ever: the wait for others ends after
`FOREIGN_WAIT_S`. The holder is read from the kernel if it tells (Linux), so that a note in the file cannot falsely
accuse anyone. A file that is not a lock file is neither followed, nor written to, nor waited for. The lock cannot stop
a malicious user from measuring, or computing, at the same time.
"""

from __future__ import annotations

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

import psutil

from benchmarks.errors import BenchmarkError, MachineBusyError
from benchmarks.process.waiting import hushed

__all__ = ["FOREIGN_WAIT_S", "LOCK_VARIABLE", "lock_path", "machine_lock"]

LOCK_VARIABLE = "PRUNE_DEPLOY_LOCK"
"""Environment variable with the path of the lock file, for users whose temporary folders differ."""

FOREIGN_WAIT_S = 3600.0
"""Longest wait for another user, in seconds."""

_NAME = "prune-deploy.lock"
_OUTSIDE = "PRUNE_DEPLOY_TMPDIR"
_FIRST_LINE = "prune-deploy machine lock\n"
_MOST_BYTES = 4096
_POLL_S = 1.0
_LOOKS_FOR_A_NAME = 8
_ATTEMPTS = 50
_ATTEMPT_S = 0.01

_held: dict[tuple[int, int], int] = {}  # (device, inode) of the locks of this process -> descriptor
_guard = threading.Lock()


def lock_path() -> Path:
    """Return the lock file of this machine: the value of `LOCK_VARIABLE`, else a fixed name in the temporary folder.

    A command has its own temporary folder (`deploy.files.scratch`); the system's is used here.
    """
    named = os.environ.get(LOCK_VARIABLE)
    return Path(named) if named else Path(os.environ.get(_OUTSIDE) or tempfile.gettempdir()) / _NAME


@contextmanager
def machine_lock(
    purpose: str,
    path: Path | None = None,
    wait_s: float | None = None,
    say: Callable[[str], object] | None = None,
) -> Iterator[None]:
    """Hold the machine for one measurement.

    The lock belongs to the process and ends with it, however it ends; children do not keep it. The file remains and
    means nothing by itself. The lock is not re-entrant: a process that holds it and asks again gets an error, since two
    measurements of one process would overlap too.

    Parameters
    ----------
    purpose : str
        What is being done, shown to those who wait, for example ``"deploy bench model.onnx"``.
    path : Path, default=None
        The file; by default `lock_path`.
    wait_s : float, default=None
        Maximum seconds to wait, 0 for not at all; by default as long as it takes, for other users an hour.
    say : callable, default=None
        Called once with a line that names the holder.

    Raises
    ------
    MachineBusyError
        Another process is still measuring after `wait_s`, or another user's after `FOREIGN_WAIT_S`, or this process
        already holds the lock.
    BenchmarkError
        The file cannot be used as a lock, or the system has no such locks.
    """
    file = path or lock_path()
    began = time.monotonic()
    key = descriptor = None
    while key is None:
        descriptor = _open(file)
        try:
            _refuse_own(descriptor, file)
            _acquire(descriptor, file, began, wait_s, say)
            key = _keep(descriptor, file)
        finally:
            if key is None:
                os.close(descriptor)
        if key is None and time.monotonic() - began >= FOREIGN_WAIT_S:
            raise _unusable(file, "it keeps being replaced")
    assert descriptor is not None
    try:
        _write(descriptor, purpose)
        with hushed():
            yield
    finally:
        _release(key)


def _open(file: Path) -> int:
    # Links are not followed, and an existing file is opened without O_CREAT: in a world-writable folder, Linux can
    # refuse O_CREAT on another user's file, whatever its mode.
    flags = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)
    for attempt in range(_ATTEMPTS):
        try:
            descriptor = os.open(file, flags)
            break
        except FileNotFoundError:
            if _create(file, flags):
                continue
        except PermissionError as error:
            # Its creator may be about to open it to everybody.
            if attempt == _ATTEMPTS - 1:
                raise _unusable(file, f"this user may not write to it{_made_by(file)}") from error
            time.sleep(_ATTEMPT_S)
        except OSError as error:
            why = "it is a link" if file.is_symlink() else error.strerror or ""
            raise _unusable(file, f"{why}{_made_by(file)}") from error
    else:
        raise _unusable(file, "it keeps appearing and disappearing")
    status = os.fstat(descriptor)
    problem = None
    if not stat.S_ISREG(status.st_mode):
        problem = "it is not a regular file"
    elif status.st_nlink > 1:
        problem = "it is a hard link to another file"
    elif (text := os.pread(descriptor, _MOST_BYTES, 0)) and not text.startswith(_FIRST_LINE.encode()):
        problem = "it holds something else"
    if problem is not None:
        os.close(descriptor)
        raise _unusable(file, f"{problem}{_made_by(file)}")
    return descriptor


def _create(file: Path, flags: int) -> bool:
    try:
        descriptor = os.open(file, flags | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        return True
    except OSError as error:
        raise _unusable(file, f"it cannot be created: {error.strerror}") from error
    try:
        os.fchmod(descriptor, 0o666)  # despite the umask: other users lock the same file
    finally:
        os.close(descriptor)
    return True


def _refuse_own(descriptor: int, file: Path) -> None:
    with _guard:
        if _key(descriptor) in _held:
            raise MachineBusyError(f"this process is measuring already and holds {file}")


def _acquire(
    descriptor: int, file: Path, began: float, wait_s: float | None, say: Callable[[str], object] | None
) -> None:
    try:
        import fcntl
    except ImportError as error:
        raise BenchmarkError("this system has no locks that end with their process") from error

    attempts, pause = 0, _ATTEMPT_S
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
        waited = time.monotonic() - began
        if wait_s is not None and waited >= wait_s:
            raise MachineBusyError(f"the machine is in use by {_holder(descriptor)[0]}; nothing was measured")
        if waited >= FOREIGN_WAIT_S:
            holder, is_ours = _holder(descriptor)
            if not is_ours:
                raise MachineBusyError(
                    f"waited {waited / 60:.0f} minutes for {holder}; nothing was measured. If that one does not "
                    f"end, set {LOCK_VARIABLE} to another path"
                )
        # A holder writes its note just after acquiring the lock.
        if say is not None and (_note(descriptor) is not None or attempts >= _LOOKS_FOR_A_NAME):
            say(f"waiting for {_holder(descriptor)[0]}")
            say = None
        time.sleep(pause if wait_s is None else max(0.0, min(pause, wait_s - waited)))
        if say is None:
            pause = min(2 * pause, _POLL_S)


def _keep(descriptor: int, file: Path) -> tuple[int, int] | None:
    """Register an acquired lock; return None if its file was removed meanwhile, so that it protects nothing."""
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
    since = datetime.now().astimezone().isoformat(timespec="seconds")
    facts = {"pid": os.getpid(), "command": purpose[:200], "since": since}
    text = (_FIRST_LINE + json.dumps(facts) + "\n").encode()
    with suppress(OSError):  # a full disk: the lock holds without a note
        os.pwrite(descriptor, text, 0)
        os.ftruncate(descriptor, len(text))


def _holder(descriptor: int) -> tuple[str, bool]:
    """Return the holder in one line of printable text, and whether it is a process of this user."""
    note, pid = _note(descriptor), _locker(descriptor)
    try:
        owner = psutil.Process(pid).uids().real if pid else None
    except psutil.Error:
        owner = None  # gone, or hidden from this user
    if owner is None:
        if note is not None and pid is None:
            return f"{note[1]}, by its own account", False
        return "a process of another container" if pid == 0 else "another process", False
    whose = _user_name(owner)
    if note is None or note[0] != pid:
        return f"pid {pid} of {whose}", owner == os.getuid()
    return f"{note[1]} of {whose}, since {note[2]}", owner == os.getuid()


def _note(descriptor: int) -> tuple[int, str, str] | None:
    """Read the holder's note: its process id, who it is, and since when; anybody may have written it."""
    try:
        _, line, *_ = os.pread(descriptor, _MOST_BYTES, 0).decode().split("\n")
        facts = json.loads(line)
        pid, since = int(facts["pid"]), datetime.fromisoformat(facts["since"]).astimezone()
        text = f"pid {pid} ({facts['command']})"
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
    return pid, "".join(letter for letter in text if letter.isprintable())[:400], _when(since)


def _locker(descriptor: int) -> int | None:
    """Ask the kernel which process has locked the file; None if unknown, 0 for one in another container."""
    status = os.fstat(descriptor)
    inode = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    with suppress(OSError, ValueError):
        for line in Path("/proc/locks").read_text().splitlines():
            fields = line.split()
            if fields[1] == "FLOCK" and inode in fields:
                return int(fields[fields.index(inode) - 1])
    return None


def _user_name(number: int) -> str:
    import pwd  # not available on every system

    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"  # no name, as in many containers


def _made_by(file: Path) -> str:
    """Return words that name the owner of a file if it is another user."""
    try:
        owner = file.stat(follow_symlinks=False).st_uid
    except OSError:
        return ""
    return "" if not hasattr(os, "getuid") or owner == os.getuid() else f" and belongs to {_user_name(owner)}"


def _when(since: datetime) -> str:
    today = datetime.now(since.tzinfo).date() == since.date()
    return since.strftime("%H:%M" if today else "%Y-%m-%d %H:%M")


def _release(key: tuple[int, int]) -> None:
    with _guard:
        descriptor = _held.pop(key, None)
    if descriptor is None:
        return  # a forked child leaving its parent's block
    import fcntl

    with suppress(OSError):
        os.ftruncate(descriptor, 0)
    # Closing alone would leave the lock to copies of the descriptor in processes forked without Python's knowledge.
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
