"""Atomic writing of files, and bounded reading of untrusted text files."""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["read_strict_json", "replacing", "require_regular"]

_MAX_BYTES = 1 << 28
_MAX_DIGITS = 18


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path` to write to; afterwards sync it to disk and rename it to `path`.

    An earlier file at `path` stays until then, also if writing fails.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        yield part
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def require_regular(path: Path) -> int:
    """Return the size of a regular file in bytes; refuse anything else (a pipe or a device may never end).

    Raises
    ------
    OSError
        The file is missing, or is not a regular file.
    """
    try:
        found = path.stat()
    except ValueError as error:  # a NUL in the name
        raise OSError(errno.EINVAL, "a file cannot have this name") from error
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder")
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is a pipe or a device, not a regular file")
    return found.st_size


def read_strict_json(path: Path) -> str:
    """Return the text of a JSON file that every parser reads the same way.

    Raises
    ------
    OSError
        See `require_regular`; or the file cannot be read.
    ValueError
        It is not text, too large or not JSON, a key appears twice, or a number is not finite or too large.
    """
    if (size := require_regular(path)) > _MAX_BYTES:
        raise ValueError(f"it has {size:,} bytes, more than {_MAX_BYTES:,}")
    try:
        text = path.read_text(encoding="utf-8")
        json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant, parse_int=_small_integer)
    except UnicodeDecodeError as error:
        raise ValueError("not a text file") from error
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    return text


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key appears twice")
    return found


def _no_constant(word: str) -> float:
    raise ValueError(f"{word} is not a JSON number")


def _small_integer(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise ValueError(f"an integer of {len(digits)} digits is too large")
    return int(digits)
