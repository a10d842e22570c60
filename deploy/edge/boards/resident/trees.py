"""Sent files, stored by the hash of their content: either complete and as sent, or absent."""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO

__all__ = ["UNUSED_S", "TreeError", "missing", "receive", "remove_unused"]

UNUSED_S = 30 * 24 * 3600.0
"""What has not been used for this long is removed."""
_BLOCK = 1 << 20


class TreeError(Exception):
    """The received files are not those announced."""


def missing(folder: Path, names: list[str], *, idle: bool) -> list[str]:
    """Return which of these are missing; the others count as used now. See `remove_unused` for `idle`."""
    there = remove_unused(folder, names, idle=idle)
    return [name for name in names if name not in there]


def remove_unused(folder: Path, used: Iterable[str], *, idle: bool) -> set[str]:
    """Mark entries of a folder as used now; remove incomplete ones and those unused for `UNUSED_S`.

    Parameters
    ----------
    folder : Path
        Folder; may be missing.
    used : iterable of str
        Names of entries.
    idle : bool
        Whether no job runs. While one does, nothing counts as old: setting the clock of a board may jump years.

    Returns
    -------
    set of str
        Those of `used` that are there.
    """
    there = {name for name in used if (folder / name).is_dir()}
    for name in there:
        os.utime(folder / name)
    now = time.time()
    for one in folder.iterdir() if folder.is_dir() else ():
        abandoned = one.name.endswith(".part") and not _runs(one.name.removesuffix(".part").rpartition(".")[2])
        with suppress(FileNotFoundError):  # another caller's, renamed in the meantime
            if abandoned or (idle and one.name not in there and now - one.stat().st_mtime > UNUSED_S):
                shutil.rmtree(one, ignore_errors=True)
    return there


def receive(folder: Path, name: str, files: Mapping[str, str], source: IO[bytes]) -> None:
    """Receive an archive of exactly these files.

    Parameters
    ----------
    folder : Path
        Folder of all trees.
    name : str
        Name of the new tree.
    files : Mapping of str to str
        Path in it -> SHA-256.
    source : binary file
        A tar archive.

    Raises
    ------
    TreeError
        The archive ends early, or holds something else.
    OSError
        The disk is full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f".{name}.{os.getpid()}.part"
    try:
        part.mkdir()
        left = dict(files)
        with tarfile.open(fileobj=source, mode="r|") as archive:
            for member in archive:
                wanted = left.pop(member.name, None)
                data = archive.extractfile(member) if member.isreg() and wanted is not None else None
                if data is None:
                    raise TreeError("a file came that was not announced")
                if _write(data, part / member.name) != wanted:
                    raise TreeError(f"{member.name} was changed while it was sent")
        if left:
            raise TreeError("it ended early")
        if not (folder / name).is_dir():
            part.rename(folder / name)
    except (tarfile.TarError, EOFError) as error:
        raise TreeError("it ended early") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _write(data: IO[bytes], path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with path.open("wb") as file:
        while block := data.read(_BLOCK):
            file.write(block)
            digest.update(block)
    return digest.hexdigest()


def _runs(pid: str) -> bool:
    return pid.isdecimal() and Path("/proc", pid).exists()
