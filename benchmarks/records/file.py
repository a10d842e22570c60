"""Save and load measurements and comparisons: versioned JSON, written atomically.

Versions of the format
----------------------
1   the first
2   noise and fitness, why a measurement ended and its budget, streams and shapes of the subject, steady-state memory

A change of the format adds a line here, a step in `_STEPS` that upgrades the older form, and a golden file to the
tests, so that old files stay readable.
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

__all__ = ["Filed", "lift", "load", "load_comparison", "load_measurement", "save", "version_of"]

Versioned = TypeVar("Versioned", Measurement, Comparison)
Kept = TypeVar("Kept", bound=Record)


def _to_2(document: dict[str, Any]) -> dict[str, Any]:
    """Upgrade version 1: everything new in version 2 defaults to a value that means "not recorded"."""
    lifted = {**document, "schema_version": 2}
    for side in ("baseline", "candidate"):
        if isinstance(lifted.get(side), dict):
            lifted[side] = {**lifted[side], "schema_version": 2}
    return lifted


_STEPS: Mapping[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _to_2}
"""Functions that upgrade the JSON form from a version to the next."""


def save(record: Record, path: Path) -> None:
    """Write a record atomically.

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


def version_of(kind: type[Record]) -> int | None:
    """Return the version of a kind that has only one; None if its files name none."""
    return kind.model_fields["version"].default if "version" in kind.model_fields else None


def load(path: Path, kind: type[Kept], what: str) -> Kept:
    """Read a record of a kind that has only one version.

    Parameters
    ----------
    path : Path
        File written by `save`.
    kind : type
        Class of the record.
    what : str
        What the file should be, for the message.

    Raises
    ------
    RecordError
        The file is missing, of another version, or is not such a record.
    """
    try:
        document = read_json(path)
    except OSError as error:
        raise RecordError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise RecordError(f"{path} is not a {what}: {one_line(error)}") from error
    try:
        return kind.model_validate_json(json.dumps(document))
    except ValidationError as error:
        version, known = document.get("version") if isinstance(document, dict) else None, version_of(kind)
        fields = kind.model_fields.keys()
        # A file of another kind may have a version too, but has few of the fields.
        if (
            type(version) is int
            and known not in (None, version)
            and 3 * len(fields & document.keys()) >= 2 * len(fields)
        ):
            reason = f"{path} is a {what} of version {version}; this prune-deploy reads {known}: make a new one"
            raise RecordError(reason) from error
        raise RecordError(f"{path} is not a {what}: {error.errors()[0]['msg']}") from error


class Filed(Record):
    """A record stored in its own file, of a kind that has only one version."""

    what: ClassVar[str]
    """Name of such a file, for messages."""

    def save(self, path: Path) -> None:
        """Write it as JSON, atomically.

        Raises
        ------
        RecordError
            The file cannot be written.
        """
        save(self, path)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a record from `path`.

        Raises
        ------
        RecordError
            The file is missing or is not such a record.
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
    """Upgrade the JSON form of a measurement or comparison to the current version.

    Parameters
    ----------
    document : dict
        JSON form of any version.
    where : str
        Where it was read from, for the message.

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
