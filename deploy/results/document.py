"""JSON documents of ours: written whole, and read from a file that anybody may have touched."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from backends.errors import one_line
from backends.reading.files import read_json
from benchmarks.records.base import Record
from benchmarks.records.disk import read_errors
from deploy.errors import ResultsError
from deploy.files.atomic import write_file
from deploy.files.validation_errors import one_line as validation_line

__all__ = ["Document", "legal", "read_document", "require_version"]


class Document(Record):
    """A record that is a file of its own."""

    def save(self, path: Path) -> None:
        """Write the file; it appears whole or not at all.

        Raises
        ------
        OutputError
            It cannot be written.
        """
        write_file(path, self.model_dump_json(indent=1) + "\n")


Kind = TypeVar("Kind", bound=Record)


def read_document(path: Path, kind: str, mark: str) -> dict[str, Any]:
    """Read the object in a JSON file.

    Parameters
    ----------
    path : Path
        Of the file.
    kind : str
        What it should be, for the message: ``"results file"``.
    mark : str
        A key that no such document lacks.

    Raises
    ------
    ResultsError
        The file is missing, cannot be read, is not JSON, or lacks the mark.
    """
    with read_errors(path, ResultsError):
        try:
            document = read_json(path)
        except ValueError as error:
            raise ResultsError(f"{path} is not JSON: it is damaged, or not a {kind} ({one_line(error)})") from error
    if not isinstance(document, dict) or mark not in document:
        raise ResultsError(f"{path} is not a {kind}: it has no {mark}")
    return document


def require_version(document: dict[str, Any], known: Collection[int], path: Path | str) -> None:
    """Refuse a document of a version that this program does not read.

    Raises
    ------
    ResultsError
        Its ``schema_version`` is none of the known ones.
    """
    version = document.get("schema_version")
    if not isinstance(version, int) or version not in known:
        span = f"{min(known)} to {max(known)}" if len(known) > 1 else f"{max(known)}"
        raise ResultsError(
            f"{path} has schema_version {version!r}; this program reads {span}: "
            "use the version of prune-deploy that wrote it, or a newer one"
        )


def legal(kind: type[Kind], document: dict[str, Any], path: Path, what: str) -> Kind:
    """Return the record that a document is.

    Parameters
    ----------
    kind : type
        Of the record.
    document : dict
        JSON form.
    path, what
        Of the file, and what it should be, for the message: ``"results file"``.

    Raises
    ------
    ResultsError
        It is broken.
    """
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        raise ResultsError(f"{path} is not a valid {what}: {validation_line(error, kind)}") from error
