"""Files and folders that appear complete or not at all, and errors of writing as one line."""

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
    """Turn what the operating system says while `target` is written into one line.

    Raises
    ------
    OutputError
        The disk is full, the folder is read-only, a file stands where a folder should be.
    """
    try:
        yield
    except OSError as error:
        advice = "free some space" if error.errno in {errno.ENOSPC, errno.EDQUOT} else "choose another place"
        raise OutputError(f"cannot write {target}: {error.strerror or error}; {advice}") from error


@contextmanager
def staged_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder beside `target` to work in; it is gone afterwards, whatever happened.

    What a killed process left there is removed first: one writer for one target at a time.
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
    """Write `text` to a temporary name beside `path`, bring it to the disk, then rename.

    Raises
    ------
    OutputError
        The folder is missing or read-only, the disk is full, or `path` is a folder.
    """
    with output_errors(path):
        write_atomically(path, lambda part: part.write_text(text, encoding="utf-8"))


def require_writable(path: Path) -> None:
    """Find out before the work whether its result can be written.

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
    """Bring `path`, and everything inside when it is a folder, to the disk itself."""
    if path.is_dir():
        for entry in path.iterdir():
            sync(entry)
    sync_entry(path)


def displaced(folder: Path) -> Path:
    """Name where the earlier `folder` stands between the two renames of `replace_folder`."""
    return folder.with_name(f".{folder.name}.old")


def replace_folder(stage: Path, folder: Path) -> None:
    """Put the finished `stage` in the place of `folder`.

    At every moment a complete folder is on the disk: under its own name, or, between two renames, the earlier one
    under the name `displaced`. A process killed right there is mended by the next call.
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
