"""Atomic file writes, one-line read errors, and content hashes."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["file_sha256", "read_errors", "sync_entry", "write_atomically"]


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, sync it to disk, then rename it.

    If that fails, whatever is raised, the file at `path` is unchanged and nothing is left behind. Half-written files
    left there by killed processes are removed.

    Raises
    ------
    OSError
        The folder is missing or read-only, the disk is full, or `path` is a folder.
    """
    if path.exists() and not path.is_file():
        raise FileExistsError(errno.EEXIST, "a folder, pipe or device stands there")  # a rename would replace it
    # The temporary name contains the process id: several processes may write the same file about the machine.
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    _remove_abandoned(path)
    try:
        with _held(part):
            write(part)
            with part.open("rb") as file:
                os.fsync(file.fileno())
            part.replace(path)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise


@contextmanager
def _held(part: Path) -> Iterator[None]:
    """Create a file and lock it, so that no other process takes it for abandoned."""
    with part.open("wb") as file:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def _remove_abandoned(path: Path) -> None:
    """Remove the temporary files for `path` that no live process holds."""
    name = re.compile(rf"\.{re.escape(path.name)}\.\d+\.part")
    with suppress(OSError):
        for part in [Path(entry.path) for entry in os.scandir(path.parent) if name.fullmatch(entry.name)]:
            with suppress(OSError), part.open("r+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                part.unlink()


@contextmanager
def read_errors(path: Path, kind: type[Exception], folder: str = "") -> Iterator[None]:
    """Turn operating-system errors while `path` is read into one-line errors.

    Parameters
    ----------
    path : Path
        The file.
    kind : type
        Type of the error to raise if the file is missing or cannot be read.
    folder : str, optional
        Advice if it is a folder.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise kind(f"{path}: no such file") from error
    except OSError as error:
        if folder and isinstance(error, IsADirectoryError):
            raise kind(f"{path} is a folder; {folder}") from error
        raise kind(f"{path} cannot be read: {error.strerror or error}") from error


def sync_entry(path: Path) -> None:
    """Sync a file, or the entries of a folder, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_sha256(*paths: Path) -> str:
    """Return the SHA-256 of the contents of files, in sequence."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            hashlib.file_digest(file, lambda: digest)
    return digest.hexdigest()
