"""Files that appear complete or not at all, and the hash of what they hold."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

__all__ = ["file_sha256", "write_atomically"]


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


def file_sha256(*paths: Path) -> str:
    """Hash the contents of files, one after the other."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            hashlib.file_digest(file, lambda: digest)
    return digest.hexdigest()
