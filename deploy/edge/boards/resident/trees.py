"""Files that were sent, by the hash of what is in them: whole and as they were sent, or not there."""

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
"""What nobody has used for so long is removed."""
_BLOCK = 1 << 20


class TreeError(Exception):
    """What came is not what was announced."""


def missing(folder: Path, names: list[str], *, idle: bool) -> list[str]:
    """Return which of these are not there; those that are count as used now. See `remove_unused` for `idle`."""
    there = remove_unused(folder, names, idle=idle)
    return [name for name in names if name not in there]


def remove_unused(folder: Path, used: Iterable[str], *, idle: bool) -> set[str]:
    """Count some entries of a folder as used now, remove what nobody has used for `UNUSED_S`, and half ones.

    Parameters
    ----------
    folder : Path
        May be missing.
    used : iterable of str
        Names in it.
    idle : bool
        Whether no job runs. Beside one nothing is old: the clock of a board may jump by years when it is set.

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
        with suppress(FileNotFoundError):  # another caller's, which has got its name meanwhile
            if abandoned or (idle and one.name not in there and now - one.stat().st_mtime > UNUSED_S):
                shutil.rmtree(one, ignore_errors=True)
    return there


def receive(folder: Path, name: str, files: Mapping[str, str], source: IO[bytes]) -> None:
    """Take an archive of exactly these files.

    Parameters
    ----------
    folder : Path
        Where all of them lie.
    name : str
        What the new one is called.
    files : Mapping of str to str
        Path in it -> SHA-256.
    source : binary file
        A tar archive.

    Raises
    ------
    TreeError
        It ends early, or holds something else.
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
