"""Read the files a history can import: check reports, results of any version, and runs as JSON lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from backends.errors import one_line as reason_of
from backends.reading.files import read_text, strict_json
from benchmarks.records.disk import read_errors
from deploy.ci.check_report import load_check
from deploy.ci.history.derive import run_of_report, run_of_results
from deploy.ci.history.records import KeptRun
from deploy.errors import ResultsError
from deploy.files.validation_errors import one_line
from deploy.results.document import require_version
from deploy.results.results import results_of_document

__all__ = ["as_lines", "read_file"]

_KIND = "deploy history"


def as_lines(runs: Iterable[KeptRun]) -> Iterator[str]:
    """Yield runs as JSON, one line each; `read_file` reads them back."""
    for run in runs:
        yield f"{run.model_dump_json()}\n"


def read_file(path: Path) -> list[KeptRun]:
    """Read a check report, results of this or an older version, or exported runs.

    Raises
    ------
    ResultsError
        The file is none of these, or damaged.
    """
    with read_errors(path, ResultsError):
        try:
            text = read_text(path)
        except ValueError as error:
            raise ResultsError(f"{path} cannot be imported: {reason_of(error)}") from error
    first, _, rest = text.partition("\n")
    if _is_run(_parsed(first)):
        lines = [(number, line) for number, line in enumerate((first, *rest.split("\n")), 1) if line.strip()]
        return [_run(line, f"line {number} of {path}") for number, line in lines]
    document = _parsed(text)
    if isinstance(document, ValueError):
        raise ResultsError(
            f"{path} is not JSON: it is damaged, or neither results nor an exported history ({reason_of(document)})"
        ) from document
    if _is_run(document):
        return [_run(text, str(path))]
    try:
        if isinstance(document, dict) and "check_file" in document:
            return [run_of_report(load_check(path))]
        if isinstance(document, dict) and "models" in document:
            return [run_of_results(results_of_document(document, path))]
    except ValidationError as error:
        raise ResultsError(f"{path} cannot be kept in a history: {one_line(error, KeptRun)}") from error
    raise ResultsError(
        f"{path} is neither a check report, nor results of deploy bench, compare or run, nor an exported history"
    )


def _parsed(text: str) -> Any:
    """Return the JSON value of a text, or the error if it is not JSON."""
    try:
        return strict_json(text)
    except ValueError as error:
        return error


def _is_run(document: Any) -> bool:
    return isinstance(document, dict) and document.get("kind") == _KIND


def _run(text: str, where: str) -> KeptRun:
    try:
        document = strict_json(text)
        require_version(document, (1,), where)
        return KeptRun.model_validate_json(text)
    except ValidationError as error:
        raise ResultsError(f"{where} is not a valid run: {one_line(error, KeptRun)}") from error
    except ValueError as error:
        raise ResultsError(f"{where} is not JSON: {reason_of(error)}") from error
