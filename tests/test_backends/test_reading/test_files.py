"""Foreign files are read within bounds, and what is wrong with one is said."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from backends.reading.files import read_arrays, read_json, read_text, strict_json


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[" * 100_000 + "]" * 100_000, "nested more than 100 deep"),
        ('{"a": ' * 5000 + "1" + "}" * 5000, "nested more than 100 deep"),
        ('{"a": 1, "a": 2}', "'a' appears twice"),
        ("[1e999]", "too large"),
        ("[NaN]", "NaN is not a JSON number"),
        ("[-Infinity]", "-Infinity is not"),
        ("[9223372036854775808]", "an integer of 19 digits is too large"),
        ("[" + "9" * 5000 + "]", "an integer of 5000 digits is too large"),
        (r'["\ud800"]', "an unpaired surrogate"),
        (r'["a\u0000b"]', "a NUL"),
        ("", "Expecting value"),
    ],
)
def test_json_that_not_every_reader_takes_is_refused(text, says):
    with pytest.raises(ValueError, match=says):
        strict_json(text)


def test_json_keeps_what_it_says():
    assert strict_json(r'{"a": [1, 2.5, "\u00e9 \\u0000", "[[[", null, true]}') == {
        "a": [1, 2.5, "é \\u0000", "[[[", None, True]
    }


def test_only_regular_files_are_read(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "ring").symlink_to(tmp_path / "ring")
    for path, says in (
        (tmp_path / "pipe", "it is a pipe"),
        (Path("/dev/zero"), "it is a device"),
        (tmp_path, "it is a folder"),
        (tmp_path / "ring", "[Ss]ymbolic links"),
        (tmp_path / "a\0b", "a file cannot have this name"),
    ):
        for read in (read_text, read_json, read_arrays):
            with pytest.raises(OSError, match=says):
                read(path)


def test_a_text_that_is_too_large_or_no_text_is_refused(tmp_path: Path):
    file = tmp_path / "file"
    file.write_bytes(b"\xff\xfe" * 8)
    with pytest.raises(ValueError, match="not a text file"):
        read_text(file)
    with pytest.raises(ValueError, match="16 bytes, more than 8"):
        read_text(file, max_bytes=8)


def test_arrays_are_read_and_damaged_archives_are_refused(tmp_path: Path):
    file = tmp_path / "arrays.npz"
    np.savez(file, x=np.arange(6.0).reshape(2, 3))
    np.testing.assert_array_equal(read_arrays(file)["x"], np.arange(6.0).reshape(2, 3))
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="zip"):
        read_arrays(file)


def test_an_array_that_claims_more_than_is_there_is_refused_before_memory_is_taken(tmp_path: Path):
    np.save(tmp_path / "x.npy", np.zeros(4))
    claimed = (tmp_path / "x.npy").read_bytes().replace(b"(4,), }", b"(4000000000,), }".ljust(7))
    claimed = claimed.replace(b" " * 9 + b"\n", b"\n", 1)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", claimed)
    with pytest.raises(ValueError, match=r"'x\.npy' is shorter than its shape says"):
        read_arrays(tmp_path / "a.npz")
