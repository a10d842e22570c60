"""Results of the oracle study, as one JSON file. Imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from benchmarks.records.disk import read_errors
from deploy.errors import ResultsError
from deploy.sources.metric import Metric

__all__ = ["CriterionRow", "OracleResults", "load_oracle"]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CriterionRow(_Record):
    """How the ranking of one criterion correlates with the oracle.

    Correlations are Spearman's; None if there is nothing to rank. `left_out` lists the groups that the criterion does
    not apply to, and why; correlations are over the others.
    """

    criterion: str
    paper: str
    per_group: dict[str, float | None]
    per_layer: float | None
    overall: float | None
    overall_l2: float | None
    seconds: float
    left_out: dict[str, str]


class OracleResults(_Record):
    """Oracle of one trained network, and how criteria compare with it.

    `losses` are changes of the mean loss (in nats, for classes) when each unit of each group is removed alone.
    """

    version: Literal[1, 2] = 2
    name: str
    network: dict[str, Any]
    data: str
    split: Literal["train", "validation"]
    n_examples: int
    batch_size: int
    seed: int
    metric: Metric = "accuracy"
    score: float
    loss: float
    seconds: float
    losses: dict[str, tuple[float, ...]]
    rows: tuple[CriterionRow, ...]
    tool_version: str

    @model_validator(mode="before")
    @classmethod
    def _lifted(cls, value: Any) -> Any:
        """Read version 1, whose score was called accuracy."""
        if not isinstance(value, dict) or "accuracy" not in value:
            return value
        return {**{key: one for key, one in value.items() if key != "accuracy"}, "score": value["accuracy"]}


def load_oracle(path: Path) -> OracleResults:
    """Read a results file.

    Raises
    ------
    ResultsError
        The file is missing, or not a file of this study.
    """
    with read_errors(path, ResultsError):
        try:
            return OracleResults.model_validate_json(path.read_text(encoding="utf-8"))
        except (ValidationError, UnicodeDecodeError) as error:
            raise ResultsError(f"{path} is not a file of the oracle study") from error
