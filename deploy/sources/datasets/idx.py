"""Read the IDX files of MNIST and its relatives, plain or gzipped, with header and length checked."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from deploy.errors import SourceError
from deploy.sources.boundary import cause

__all__ = ["find_idx", "read_idx"]

_UNSIGNED_BYTE = 0x08


def find_idx(folder: Path, name: str) -> Path | None:
    """Find ``name`` or ``name.gz`` in `folder`."""
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def read_idx(path: Path, n_dimensions: int) -> npt.NDArray[np.uint8]:
    """Read an array of unsigned bytes.

    Header: two zero bytes, the type, the number of dimensions, then each dimension as a big-endian 32-bit integer.

    Raises
    ------
    SourceError
        The file is not an IDX file of bytes with that many dimensions, or its length is not what its header says.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise SourceError(f"data file {path} is damaged ({cause(error)})") from error
    start = 4 + 4 * n_dimensions
    if content[:4] != bytes((0, 0, _UNSIGNED_BYTE, n_dimensions)) or len(content) < start:
        raise SourceError(f"data file {path} is not an IDX file of bytes with {n_dimensions} dimensions")
    shape = tuple(int(n) for n in np.frombuffer(content, ">u4", count=n_dimensions, offset=4))
    expected = start + int(np.prod(shape, dtype=np.int64))
    if len(content) != expected:
        raise SourceError(f"data file {path} has {len(content)} bytes, its header promises {expected}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
