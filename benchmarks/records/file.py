"""Measurements and comparisons as files: versioned JSON that appears whole or not at all.

Versions of the format
----------------------
1   the first
2   noise and fitness, why a measurement ended and its budget, streams and shapes of the subject, memory while steady

A change of the format adds a line here, a step in `_STEPS` that lifts the older form, and a golden file to the tests:
old files stay readable.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

from pydantic import ValidationError

from backends.errors import one_line
from backends.reading.files import read_json
from benchmarks.errors import RecordError
from benchmarks.records.base import Record
from benchmarks.records.disk import read_errors, write_atomically
from benchmarks.records.measurement import SCHEMA_VERSION, Comparison, Measurement

__all__ = ["Filed", "lift", "load", "load_comparison", "load_measurement", "save"]

Versioned = TypeVar("Versioned", Measurement, Comparison)
Kept = TypeVar("Kept", bound=Record)


def _to_2(document: dict[str, Any]) -> dict[str, Any]:
    """Lift version 1: everything new in version 2 has a value that says "not recorded"."""
    lifted = {**document, "schema_version": 2}
    for side in ("baseline", "candidate"):
        if isinstance(lifted.get(side), dict):
            lifted[side] = {**lifted[side], "schema_version": 2}
    return lifted


_STEPS: Mapping[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _to_2}
"""From a version to the next: a function on the JSON form."""


def save(record: Record, path: Path) -> None:
    """Write a record; it appears whole or not at all.

    Raises
    ------
    RecordError
        The file cannot be written.
    """
    text = record.model_dump_json() + "\n"
    try:
        write_atomically(path, lambda part: part.write_text(text, encoding="utf-8"))
    except OSError as error:
        raise RecordError(f"cannot write {path}: {error.strerror or error}; choose another place") from error


def load(path: Path, kind: type[Kept], what: str) -> Kept:
    """Read a record of a kind that has had one version only.

    Parameters
    ----------
    path : Path
        Written by `save`.
    kind : type
        Of the record.
    what : str
        What the file should be, for the message.

    Raises
    ------
    RecordError
        The file is missing or is not one.
    """
    try:
        return kind.model_validate_json(json.dumps(read_json(path)))
    except OSError as error:
        raise RecordError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValidationError as error:
        raise RecordError(f"{path} is not a {what}: {error.errors()[0]['msg']}") from error
    except ValueError as error:
        raise RecordError(f"{path} is not a {what}: {one_line(error)}") from error


class Filed(Record):
    """A record that is a file of its own, and has had one version only."""

    what: ClassVar[str]
    """What such a file is, for messages."""

    def save(self, path: Path) -> None:
        """Write it as JSON, complete or not at all.

        Raises
        ------
        RecordError
            The file cannot be written.
        """
        save(self, path)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read one.

        Raises
        ------
        RecordError
            The file is missing or is not one.
        """
        return load(path, cls, cls.what)


def load_measurement(path: Path) -> Measurement:
    """Read a measurement of this or an older version.

    Raises
    ------
    RecordError
        The file is missing, broken, or of an unknown version.
    """
    return _load(path, Measurement)


def load_comparison(path: Path) -> Comparison:
    """Read a comparison of this or an older version.

    Raises
    ------
    RecordError
        The file is missing, broken, or of an unknown version.
    """
    return _load(path, Comparison)


def lift(document: dict[str, Any], where: str) -> dict[str, Any]:
    """Bring the JSON form of a measurement or comparison to the present version.

    Parameters
    ----------
    document : dict
        Of any version.
    where : str
        What it was read from, for the message.

    Raises
    ------
    RecordError
        Its version is unknown.
    """
    version = document.get("schema_version")
    while version != SCHEMA_VERSION:
        if not isinstance(version, int) or version not in _STEPS:
            raise RecordError(
                f"{where} is of version {version!r}; versions 1 to {SCHEMA_VERSION} can be read: "
                f"use the prune-deploy that wrote it, or a newer one"
            )
        document = _STEPS[version](document)
        version = document["schema_version"]
    return document


def _load(path: Path, kind: type[Versioned]) -> Versioned:
    with read_errors(path, RecordError):
        try:
            document = read_json(path)
        except ValueError as error:
            raise RecordError(f"{path} is not JSON: {one_line(error)}") from error
    if not isinstance(document, dict):
        raise RecordError(f"{path} is not a {kind.__name__.lower()}")
    document = lift(document, str(path))
    try:
        return kind.model_validate_json(json.dumps(document))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "document"
        raise RecordError(f"{path} is not a {kind.__name__.lower()}: {where}: {first['msg']}") from error
