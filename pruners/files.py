"""Files that appear complete or not at all, and text files of other people, read within bounds."""

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
    """Yield a temporary name beside `path` to write to; afterwards it is synced to disk and renamed.

    What was at `path` stays there until then, and where the writing fails.
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
    """Refuse what is no regular file (a pipe or a device may never end), and return the size of one in bytes.

    Raises
    ------
    OSError
        It is missing, or no regular file.
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
    """Read a JSON file that means the same to every reader, and return its text.

    Raises
    ------
    OSError
        See `require_regular`; or it cannot be read.
    ValueError
        It is no text, too large or not JSON, a key appears twice, or a number is not finite or too large.
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
