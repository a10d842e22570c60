"""Files that appear complete or not at all, errors of reading one, and the hash of what it holds."""

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
    """Let `write` fill a temporary file beside `path`, bring it to the disk, then rename it.

    Where that fails, whatever is raised, what was at `path` stays and nothing is left behind. What a killed process
    left there half written is removed.

    Raises
    ------
    OSError
        The folder is missing or read-only, the disk is full, or `path` is a folder.
    """
    # Of this process alone: what is known of the machine is written by whoever measures on it.
    if path.exists() and not path.is_file():
        raise FileExistsError(errno.EEXIST, "a folder, pipe or device stands there")  # a rename would take its place
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
    """Make a file that nobody takes for abandoned meanwhile."""
    with part.open("wb") as file:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def _remove_abandoned(path: Path) -> None:
    """Remove the temporary files for `path` whose process is gone, which nobody holds any more."""
    name = re.compile(rf"\.{re.escape(path.name)}\.\d+\.part")
    with suppress(OSError):
        for part in [Path(entry.path) for entry in os.scandir(path.parent) if name.fullmatch(entry.name)]:
            with suppress(OSError), part.open("r+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                part.unlink()


@contextmanager
def read_errors(path: Path, kind: type[Exception], folder: str = "") -> Iterator[None]:
    """Turn what the operating system says while `path` is read into one line.

    Parameters
    ----------
    path : Path
        Of the file.
    kind : type
        Of the error that is raised: the file is missing or cannot be read.
    folder : str, optional
        What to do where it is a folder.
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
    """Bring a file, or the list of what a folder holds, to the disk itself."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_sha256(*paths: Path) -> str:
    """Hash the contents of files, one after the other."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            hashlib.file_digest(file, lambda: digest)
    return digest.hexdigest()
