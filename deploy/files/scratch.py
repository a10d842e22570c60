"""Temporary folder of one command: everything that it and its children put there is removed, however it ends.

Killed children cannot clean up after themselves, and a signal may come after a folder is made but before it is
registered for removal. If the command itself is killed, the next command removes its folder.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from deploy.exit_codes import INTERRUPTED

__all__ = ["OUTSIDE", "scratch_folder"]

OUTSIDE = "PRUNE_DEPLOY_TMPDIR"
"""Environment variable with the folder for temporary files that outlive the command."""

_PREFIX = "prune-deploy-"
_MARK = "in-use"
"""A file in the folder that is locked while its command runs."""


@contextmanager
def scratch_folder() -> Iterator[None]:
    """Make this process and its children put their temporary files in a new folder, which is removed at the end.

    If there is no place for temporary files, no folder is made: whatever needs one will report it.
    """
    try:
        outside = tempfile.gettempdir()
        _remove_abandoned(outside)
        with _undisturbed():
            folder = tempfile.mkdtemp(prefix=_PREFIX)
            mark = _marked(folder)
    except OSError:
        folder = ""
    if not folder:
        yield
        return
    before = {name: os.environ.get(name) for name in ("TMPDIR", OUTSIDE)}
    try:
        os.environ["TMPDIR"] = tempfile.tempdir = folder
        os.environ[OUTSIDE] = outside
        yield
    except BaseException as error:
        if getattr(error, "code", INTERRUPTED) == INTERRUPTED:
            _end_children()
        raise
    finally:
        with _undisturbed():
            tempfile.tempdir = outside
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
            shutil.rmtree(folder, ignore_errors=True)
            os.close(mark)


def _marked(folder: str) -> int:
    # Under another name until it is locked, so that no other command takes a new folder for an abandoned one.
    new = Path(folder) / f"{_MARK}.new"
    mark = os.open(new, os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_CLOEXEC", 0), 0o600)
    if _locks(mark):
        new.rename(new.with_name(_MARK))
    return mark


def _remove_abandoned(outside: str) -> None:
    for entry in list(os.scandir(outside)):
        mark = Path(entry.path) / _MARK
        ours = entry.name.startswith(_PREFIX) and entry.is_dir(follow_symlinks=False)
        if not ours or entry.stat(follow_symlinks=False).st_uid != os.geteuid():
            continue
        with suppress(OSError):
            descriptor = os.open(mark, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
            try:
                if _locks(descriptor):
                    shutil.rmtree(entry.path, ignore_errors=True)
            finally:
                os.close(descriptor)


def _locks(descriptor: int) -> bool:
    try:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ImportError, OSError):
        return False
    return True


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Block signals while a folder is made and registered, or removed."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    endings = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, endings)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_children() -> None:
    """Kill processes that were started just as a signal came, before anything kept track of them."""
    import psutil

    children = psutil.Process().children(recursive=True)
    for child in children:
        with suppress(psutil.Error):
            child.kill()
    psutil.wait_procs(children, timeout=5)
