"""`Results`: everything that one run or one bench measured, as one versioned JSON file.

It holds the raw samples; every percentile, ratio and sentence is derived from them on display.
docs/results.md explains each field.

Versions of the format
----------------------
1   the first
2   measurement records of version 2
3   scores with a metric instead of accuracies
4   what was removed from each network, and how it was checked
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from pydantic import Field, JsonValue, NonNegativeInt, PositiveInt, model_validator

from benchmarks.records.base import Record
from benchmarks.records.file import lift
from benchmarks.records.measurement import Agreement, Comparison, Cost, Environment, Measurement
from deploy.bundles.pruning import PruningRecord
from deploy.errors import ResultsError
from deploy.results.document import Document, legal, read_document, require_version
from deploy.results.frame import frame_of
from deploy.sources.metric import Metric, require_legal

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "SCHEMA_VERSION",
    "AnswerCheck",
    "ModelRow",
    "Results",
    "Shows",
    "Skipped",
    "load",
    "results_of_document",
]

SCHEMA_VERSION = 4

_SCORES = {
    "accuracy_validation": "score_validation",
    "accuracy_test": "score_test",
    "backend_accuracy": "backend_scores",
}
"""Names of model fields, by their names before version 3."""
_WRONG_ANSWERS = "WrongAnswersError"


class ModelRow(Record):
    """One network: its nominal cost, scores and origin."""

    label: str = Field(description="name in the tables; subjects of measurements carry the same one")
    file: str = Field(description="name of the ONNX file, without its folder")
    sha256: str = Field(description="hash over the ONNX file and its external data")
    file_bytes: NonNegativeInt = Field(description="ONNX file with its external data")
    cost: Cost
    metric: Metric = Field("accuracy", description="metric of all scores: top-1 accuracy in [0, 1], or mean PSNR in dB")
    score_validation: float | None = Field(None, description="score in torch; None: not measured")
    score_test: float | None = Field(None, description="score in torch; None: not measured")
    n_test: NonNegativeInt | None = Field(None, description="number of test examples behind score_test")
    n_classes: PositiveInt | None = Field(
        None, description="classes the network distinguishes; None: it has none, or unknown, as in older files"
    )
    backend_scores: dict[str, float] = Field(
        default_factory=dict, description="by backend: score of the compiled model on the test set"
    )
    method: str | None = Field(None, description="pruning method; None for a network that was not pruned")
    settings: dict[str, JsonValue] = Field(default_factory=dict, description="settings of the method")
    plan_removed_units: NonNegativeInt | None = Field(
        None, description="channels removed by the plan, over all groups; None: no plan, or not examined"
    )
    pruning: PruningRecord | None = Field(
        None, description="what was removed, and the proof; None: not pruned, or unknown as in older versions"
    )
    zeros: NonNegativeInt = Field(0, description="parameters the method set to zero, with their shapes kept")

    @model_validator(mode="after")
    def _legal(self) -> ModelRow:
        require_legal(self.metric, self.score_validation, self.score_test, *self.backend_scores.values())
        return self


class Skipped(Record):
    """A requested backend that could not be used."""

    backend: str
    reason: str
    hint: str = Field("", description="what to do about it")


@dataclass(frozen=True, slots=True)
class AnswerCheck:
    """Whether the outputs of one compiled model match its reference.

    Parameters
    ----------
    label, backend : str
        The model and the backend that compiled it.
    agreement : Agreement or None
        None if not checked: the model could not be compiled, or the backend computes nothing.
    failure : str or None
        Why there are no samples.
    agrees : bool
        False if the outputs were compared and are wrong; a model that did not run counts as True.
    """

    label: str
    backend: str
    agreement: Agreement | None
    failure: str | None
    agrees: bool


class Shows(Protocol):
    """Renders results; implemented in `deploy.report`, which imports this module and so is not imported here."""

    def text(self, results: Results) -> str:
        """Return the answer in a few lines."""

    def html(self, results: Results) -> str:
        """Return the same for a notebook."""

    def rows(self, results: Results) -> list[dict[str, Any]]:
        """Return one row for each backend."""


class Results(Document):
    """``results.json``; a notebook shows its answer, `to_frame` has it as a table."""

    shown_by: ClassVar[Shows | None] = None
    """Set by `deploy.report.answer.shown`, which is loaded when `deploy` is called from Python."""

    schema_version: Literal[4] = 4
    created_utc: str
    title: str = Field(min_length=1)
    tool_version: str
    environment: Environment = Field(
        description="the machine, the versions of everything involved, and the highest load seen by any measurement"
    )
    models: tuple[ModelRow, ...] = Field(min_length=1, description="the baseline first")
    comparisons: tuple[Comparison, ...] = Field((), description="pairs measured together, one per backend")
    measurements: tuple[Measurement, ...] = Field((), description="models measured alone")
    skipped: tuple[Skipped, ...] = ()
    accepts_unfit: bool = Field(False, description="whether numbers from an unfit machine were accepted in advance")
    recipe: dict[str, JsonValue] | None = Field(
        None, description="the recipe of `deploy run`, without the folder of the data"
    )
    notes: tuple[str, ...] = Field((), description="what a reader should know, one sentence each")

    def all_measurements(self) -> tuple[Measurement, ...]:
        """List every measurement, of pairs and alone, the baseline of a pair first."""
        return (*(side for pair in self.comparisons for side in pair.sides), *self.measurements)

    def answers(self) -> tuple[AnswerCheck, ...]:
        """Return for every compiled model whether its outputs were right."""
        return tuple(
            AnswerCheck(
                label=measurement.subject.label,
                backend=measurement.subject.backend,
                agreement=measurement.agreement,
                failure=measurement.failure,
                agrees=measurement.failure_kind != _WRONG_ANSWERS
                and (measurement.agreement is None or measurement.agreement.ok),
            )
            for measurement in self.all_measurements()
        )

    def model(self, label: str) -> ModelRow | None:
        """Return the row of the model called `label`."""
        return next((row for row in self.models if row.label == label), None)

    def __repr__(self) -> str:
        return super().__repr__() if self.shown_by is None else self.shown_by.text(self)

    def _repr_html_(self) -> str | None:
        return None if self.shown_by is None else self.shown_by.html(self)

    def to_frame(self) -> pd.DataFrame:
        """Return the answer as a table: one row per backend, number of threads and batch.

        Times are in nanoseconds, sizes in bytes; numbers are floats, NaN if unknown.

        Raises
        ------
        ExtraMissingError
            pandas is not installed.
        ResultsError
            The results were not created or read by a function of `deploy`.
        """
        if self.shown_by is None:
            raise ResultsError("nothing was loaded that makes tables of results: read them with deploy.load_results")
        return frame_of(self.shown_by.rows(self))


def load(path: Path) -> Results:
    """Read a results file of this or an older version.

    Raises
    ------
    ResultsError
        The file is missing, broken, or of an unknown version.
    """
    return results_of_document(read_document(path, "results file", "schema_version"), path)


def results_of_document(document: dict[str, Any], path: Path) -> Results:
    """Return the results given as the JSON document of a file, or as part of a larger one.

    Parameters
    ----------
    document : dict
        JSON form of this or an older version.
    path : Path
        The file, for the message.

    Raises
    ------
    ResultsError
        The document is broken, or of an unknown version.
    """
    require_version(document, range(1, SCHEMA_VERSION + 1), path)
    return legal(Results, _lift(document, path), path, "results file")


def _lift(document: dict[str, Any], path: Path) -> dict[str, Any]:
    """Lift the JSON form of an older version to the present one; the records inside have their own versions."""
    lifted = {**document, "schema_version": SCHEMA_VERSION}
    for name in ("comparisons", "measurements"):
        if isinstance(records := document.get(name), list):
            lifted[name] = [lift(one, str(path)) if isinstance(one, dict) else one for one in records]
    if document["schema_version"] < 3 and isinstance(models := document.get("models"), list):
        lifted["models"] = [
            {_SCORES.get(key, key): value for key, value in row.items()} if isinstance(row, dict) else row
            for row in models
        ]
    return lifted
