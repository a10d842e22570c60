"""Write files and folders atomically, complete or not at all, and report write errors in one line."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.records.disk import sync_entry, write_atomically
from deploy.errors import OutputError

__all__ = [
    "displaced",
    "output_errors",
    "replace_folder",
    "require_writable",
    "staged_folder",
    "sync",
    "write_file",
]


@contextmanager
def output_errors(target: Path) -> Iterator[None]:
    """Turn an operating-system error while `target` is written into an error of one line.

    Raises
    ------
    OutputError
        The disk is full, the folder is read-only, or a file is where a folder should be.
    """
    try:
        yield
    except OSError as error:
        advice = "free some space" if error.errno in {errno.ENOSPC, errno.EDQUOT} else "choose another place"
        raise OutputError(f"cannot write {target}: {error.strerror or error}; {advice}") from error


@contextmanager
def staged_folder(target: Path) -> Iterator[Path]:
    """Yield an empty working folder beside `target`; it is removed afterwards, whatever happens.

    What a killed process left there is removed first, so a target must have only one writer at a time.
    """
    stage = target.with_name(f".{target.name}.part")
    target.parent.mkdir(parents=True, exist_ok=True)
    if stage.exists():
        shutil.rmtree(stage)
    stage.mkdir()
    try:
        yield stage
    finally:
        if stage.exists():
            shutil.rmtree(stage)


def write_file(path: Path, text: str) -> None:
    """Write `text` to a temporary name beside `path`, flush it to disk, then rename.

    Raises
    ------
    OutputError
        The folder is missing or read-only, the disk is full, or `path` is a folder.
    """
    with output_errors(path):
        write_atomically(path, lambda part: part.write_text(text, encoding="utf-8"))


def require_writable(path: Path) -> None:
    """Check, before the work, that its result can be written.

    Raises
    ------
    OutputError
        The folder is missing or read-only, or `path` is a folder.
    """
    with output_errors(path):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if path.exists() and not path.is_file():
            raise FileExistsError(errno.EEXIST, "a pipe or device stands there")
        probe = path.with_name(f".{path.name}.part")
        probe.write_bytes(b"")
        probe.unlink()


def sync(path: Path) -> None:
    """Flush `path` to disk; if it is a folder, also everything in it."""
    if path.is_dir():
        for entry in path.iterdir():
            sync(entry)
    sync_entry(path)


def displaced(folder: Path) -> Path:
    """Return the path of the earlier `folder` between the two renames of `replace_folder`."""
    return folder.with_name(f".{folder.name}.old")


def replace_folder(stage: Path, folder: Path) -> None:
    """Replace `folder` by the finished `stage`.

    At every moment a complete folder is on disk: under its own name, or, between the two renames, the earlier one
    under the name `displaced`. If a process is killed right there, the next call repairs it.
    """
    sync(stage)
    aside = displaced(folder)
    if aside.exists():
        if folder.exists():
            shutil.rmtree(aside)
        else:
            aside.replace(folder)
    if folder.exists():
        folder.replace(aside)
    try:
        stage.replace(folder)
    except OSError:
        if aside.exists():
            aside.replace(folder)
        raise
    sync_entry(folder.parent)
    if aside.exists():
        shutil.rmtree(aside)
