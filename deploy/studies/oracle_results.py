"""What the oracle study found, as one JSON file. Imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from deploy.errors import ResultsError

__all__ = ["CriterionRow", "OracleResults", "load_oracle"]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CriterionRow(_Record):
    """How one criterion ranks units, against the oracle.

    Correlations are Spearman's; None where there is nothing to rank. `left_out` says of which groups the criterion
    can say nothing, and why: correlations are over the others.
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
    """The oracle of one trained network, and how criteria compare with it.

    `losses` are changes of the mean loss, in nats, as each unit of each group goes alone.
    """

    version: Literal[1] = 1
    name: str
    network: dict[str, Any]
    data: str
    split: Literal["train", "validation"]
    n_examples: int
    batch_size: int
    seed: int
    accuracy: float
    loss: float
    seconds: float
    losses: dict[str, tuple[float, ...]]
    rows: tuple[CriterionRow, ...]
    tool_version: str


def load_oracle(path: Path) -> OracleResults:
    """Read a results file.

    Raises
    ------
    ResultsError
        It is missing, or not one of these.
    """
    try:
        return OracleResults.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ResultsError(f"{path}: no such file") from error
    except (ValidationError, UnicodeDecodeError) as error:
        raise ResultsError(f"{path} is not a file of the oracle study") from error
