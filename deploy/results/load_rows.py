"""Read the rows that ``deploy load`` writes: one JSON document per line."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import ValidationError

from backends.errors import one_line
from backends.reading.files import read_text, strict_json
from benchmarks.scenarios.load import LoadMeasurement
from deploy.errors import ResultsError
from deploy.files.validation_errors import one_line as validation_line

__all__ = ["read_load"]


def read_load(path: Path) -> list[LoadMeasurement]:
    """Read all rows.

    Raises
    ------
    ResultsError
        The file is missing, has no rows, or one of them is broken.
    """
    try:
        documents = [strict_json(line) for line in read_text(path).splitlines() if line]
        rows = [LoadMeasurement.model_validate_json(json.dumps(document)) for document in documents]
    except ValidationError as error:
        raise ResultsError(f"{path} is not the result of a load: {validation_line(error, LoadMeasurement)}") from error
    except ValueError as error:
        raise ResultsError(
            f"{path} is not JSON: it is damaged, or not the result of a load ({one_line(error)})"
        ) from error
    except OSError as error:
        raise ResultsError(f"{path} cannot be read: {error.strerror or error}") from error
    if not rows:
        raise ResultsError(f"{path} holds no row of a load")
    return rows
