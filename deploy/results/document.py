"""JSON documents: written atomically, and validated when read."""

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
    """A record that is saved as its own file."""

    def save(self, path: Path) -> None:
        """Write the file atomically.

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
        The file.
    kind : str
        What it should be, for the message: ``"results file"``.
    mark : str
        A key that every such document has.

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
    """Refuse a document of an unsupported version.

    Raises
    ------
    ResultsError
        Its ``schema_version`` is not a known one.
    """
    version = document.get("schema_version")
    if not isinstance(version, int) or version not in known:
        span = f"{min(known)} to {max(known)}" if len(known) > 1 else f"{max(known)}"
        raise ResultsError(
            f"{path} has schema_version {version!r}; this program reads {span}: "
            "use the version of prune-deploy that wrote it, or a newer one"
        )


def legal(kind: type[Kind], document: dict[str, Any], path: Path, what: str) -> Kind:
    """Validate a document and return it as a record.

    Parameters
    ----------
    kind : type
        Class of the record.
    document : dict
        JSON form.
    path, what
        The file, and what it should be, for the message: ``"results file"``.

    Raises
    ------
    ResultsError
        The document is invalid.
    """
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        raise ResultsError(f"{path} is not a valid {what}: {validation_line(error, kind)}") from error
