"""A JSON document of ours, read from a file that anybody may have touched."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from backends.errors import one_line
from backends.reading.files import read_json
from benchmarks.records.disk import read_errors
from deploy.errors import ResultsError

__all__ = ["read_document", "require_version"]


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
            raise ResultsError(f"{path} is not JSON: it is damaged, or no {kind} ({one_line(error)})") from error
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
