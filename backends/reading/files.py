"""Read untrusted files within bounds: regular files only, strict JSON, archives no larger than they say.

Every fault is raised as an `OSError` (the file) or a `ValueError` (its content) whose text completes the line
``"FILE ...: TEXT"``.
"""

from __future__ import annotations

import errno
import json
import lzma
import math
import os
import re
import stat
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from backends.base import Array

__all__ = ["memory_bytes", "read_arrays", "read_json", "read_text", "require_regular", "strict_json"]

_MAX_TEXT_BYTES = 1 << 30
_MAX_DEPTH = 100
_MAX_INTEGER = 1 << 63
_MAX_DIGITS = 19
_MEMORY_SHARE = 8
"""An archive may take one part in this many of the machine's memory: its arrays are copied to processes."""
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}
_TEXT = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_BRACKET = re.compile(r"[\[\]{}]")


def require_regular(path: Path) -> int:
    """Return the size of a regular file in bytes; reject anything else (a pipe or a device may never end).

    Raises
    ------
    OSError
        It is missing, or not a regular file.
    """
    try:
        found = path.stat()
    except ValueError as error:  # a NUL in the name
        raise OSError(errno.EINVAL, "a file cannot have this name") from error
    kind = stat.S_IFMT(found.st_mode)
    if kind == stat.S_IFDIR:
        raise IsADirectoryError(errno.EISDIR, "it is a folder")
    if kind != stat.S_IFREG:
        raise OSError(errno.EINVAL, f"it is {_KINDS.get(kind, 'not a file')}, not a regular file")
    return found.st_size


def read_text(path: Path, *, max_bytes: int = _MAX_TEXT_BYTES) -> str:
    """Read a text file.

    Raises
    ------
    OSError
        See `require_regular`; or it cannot be read.
    ValueError
        It is larger than `max_bytes`, or not UTF-8.
    """
    if (size := require_regular(path)) > max_bytes:
        raise ValueError(f"it has {size:,} bytes, more than {max_bytes:,}")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError("it is not a text file") from error


def read_json(path: Path) -> Any:
    """Read a JSON file; see `strict_json`.

    Raises
    ------
    OSError, ValueError
        See `read_text` and `strict_json`.
    """
    return strict_json(read_text(path))


def strict_json(text: str) -> Any:
    """Read JSON that means the same to every reader.

    Raises
    ------
    ValueError
        It is not JSON; or a key appears twice, a number is not finite, an integer does not fit into 64 bits, a string
        contains a NUL or half a surrogate pair, or it is nested more than 100 deep.
    """
    if text.count("[") + text.count("{") > _MAX_DEPTH:
        _require_shallow(text)
    try:
        document = json.loads(
            text,
            object_pairs_hook=_unique,
            parse_constant=_no_constant,
            parse_int=_small_integer,
            parse_float=_finite,
        )
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    if "\\u" in text:
        _require_text(document)
    return document


def memory_bytes() -> int:
    """Return the memory of the machine in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def read_arrays(path: Path) -> dict[str, Array]:
    """Read a ``numpy.savez`` archive, without pickles.

    Raises
    ------
    OSError
        See `require_regular`; or it cannot be read.
    ValueError
        It is not such an archive, is damaged, or its arrays take more than an eighth of the machine's memory.
    """
    require_regular(path)
    with path.open("rb") as file:
        if file.read(len(np.lib.format.MAGIC_PREFIX)) == np.lib.format.MAGIC_PREFIX:
            raise ValueError("it is a single array")
    try:
        with zipfile.ZipFile(path) as archive:
            return _arrays(archive)
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError) as error:
        raise ValueError(str(error) or "it is damaged") from error
    except (ArithmeticError, AttributeError, LookupError, MemoryError, SyntaxError, TypeError) as error:
        raise ValueError(f"it is damaged: {error}") from error  # raised by NumPy for an invalid header


def _arrays(archive: zipfile.ZipFile) -> dict[str, Array]:
    members = archive.infolist()
    if len({member.filename.removesuffix(".npy") for member in members}) < len(members):
        raise ValueError("two arrays in it have the same name")
    total = sum(member.file_size for member in members)
    if total > (most := memory_bytes() // _MEMORY_SHARE):
        raise ValueError(f"its arrays take {total:,} bytes, more than {most:,} (an eighth of this machine's memory)")
    arrays: dict[str, Array] = {}
    for member in members:
        with archive.open(member) as file:
            _require_size(file, member)
        with archive.open(member) as file:
            arrays[member.filename.removesuffix(".npy")] = np.lib.format.read_array(file, allow_pickle=False)
    return arrays


def _require_size(file: Any, member: zipfile.ZipInfo) -> None:
    """Reject an array whose shape claims more data than there is: NumPy allocates the memory first."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, kind = read(file)
    if any(size < 0 for size in shape) or math.prod(shape) * kind.itemsize > member.file_size:
        raise ValueError(f"array {member.filename!r} is shorter than its shape says")


def _require_shallow(text: str) -> None:
    depth = 0
    for bracket in _BRACKET.finditer(_TEXT.sub("", text)):
        depth += 1 if bracket[0] in "[{" else -1
        if depth > _MAX_DEPTH:
            raise ValueError(f"it is nested more than {_MAX_DEPTH} deep")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"key {next(name for name in names if names.count(name) > 1)!r} appears twice")
    return found


def _no_constant(word: str) -> float:
    raise ValueError(f"{word} is not a JSON number")


def _small_integer(digits: str) -> int:
    if len(digits) <= _MAX_DIGITS + 1 and abs(value := int(digits)) < _MAX_INTEGER:
        return value
    raise ValueError(f"an integer of {len(digits)} digits is too large")


def _finite(digits: str) -> float:
    if math.isfinite(value := float(digits)):
        return value
    raise ValueError(f"the number {digits[:40]} is too large")


def _require_text(document: Any) -> None:
    """Reject strings that no file or terminal accepts; they can only get in through escapes."""
    try:
        text = json.dumps(document, ensure_ascii=False)
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("a text in it holds an unpaired surrogate") from error
    if re.search(r"(?<!\\)(?:\\\\)*\\u0000", text):
        raise ValueError("a text in it holds a NUL")
