"""Files that appear complete or not at all, errors of reading one, and the hash of what it holds."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["file_sha256", "read_errors", "sync_entry", "write_atomically"]


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, bring it to the disk, then rename it.

    Where that fails, whatever is raised, what was at `path` stays and nothing is left behind.

    Raises
    ------
    OSError
        The folder is missing or read-only, the disk is full, or `path` is a folder.
    """
    # Of this process alone: what is known of the machine is written by whoever measures on it.
    if path.exists() and not path.is_file():
        raise FileExistsError(errno.EEXIST, "a folder, pipe or device stands there")  # a rename would take its place
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        write(part)
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise


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
