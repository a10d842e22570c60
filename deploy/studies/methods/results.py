"""Results of a study: the result of each job, and ``study.json`` with every cell and every comparison.

Versions of both formats
------------------------
1   the first
2   scores with a metric instead of accuracies
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, Field, ValidationError, model_validator

from benchmarks.records.base import Record
from benchmarks.records.measurement import Comparison
from deploy.bundles.pruning import SpeedLanding
from deploy.errors import ResultsError
from deploy.results.document import Document
from deploy.sources.metric import Metric
from deploy.studies.methods.jobs import Kind

__all__ = [
    "RESULT",
    "Cell",
    "JobResult",
    "MeasuredRow",
    "Scores",
    "StudyResults",
    "load_results",
    "read_result",
    "write_result",
]

RESULT = "result.json"
"""Result of a job, in its folder."""


def _finite(loss: float | None) -> float | None:
    return loss if loss is not None and math.isfinite(loss) else None


Loss: TypeAlias = Annotated[float | None, AfterValidator(_finite)]


class Scores(Record):
    """Scores of a network: accuracy as a share or PSNR in dB; mean cross-entropy in nats or mean error of pixels.

    A loss is None if it is not finite: JSON has no such numbers.
    """

    metric: Metric = "accuracy"
    score_validation: float
    score_test: float
    loss_validation: Loss
    loss_test: Loss
    n_validation: int
    n_test: int

    @model_validator(mode="before")
    @classmethod
    def _lifted(cls, value: Any) -> Any:
        """Read the accuracies of version 1."""
        if not isinstance(value, dict):
            return value
        return {key.replace("accuracy_", "score_"): one for key, one in value.items()}


class JobResult(Document):
    """``result.json`` of a job; unknown fields are None.

    Parameters
    ----------
    reason : str
        Why it failed; empty if it did not.
    scores : Scores, optional
        Scores of the resulting network; of a pruned one before any recovery.
    lr, epochs, kept_epoch
        Of its training: the largest learning rate, the number of epochs, and the epoch whose weights were kept.
    macs, params : tuple of int
        Cost of the dense and the pruned network, for one example.
    zeros : int
        Single weights that pruning set to zero; counted in `macs` and `params`.
    nonzero_macs : int
        Multiplications by weights that are not zero: what Scratch-B counts for methods that set weights to zero.
    landing : str
        Where the plan landed, if far from the target.
    speeds : tuple of SpeedLanding
        How close it came to the requested speed.
    history : tuple of dict
        What the method reported on its steps.
    drawn : str
        How new weights were drawn.
    before : dict
        What was folded, reconstructed or recalibrated, before the training if there is one.
    architecture : str
        Hash of the exported network without its weights.
    seconds : float
        Wall time of the process that finished the job.
    training_seconds : float
        Time of all epochs, including those of earlier processes.
    """

    version: Literal[1, 2] = 2
    kind: Kind
    title: str
    key: str
    reason: str = ""
    scores: Scores | None = None
    lr: float | None = None
    epochs: int | None = None
    kept_epoch: int | None = None
    macs: tuple[int, int] | None = None
    params: tuple[int, int] | None = None
    zeros: int = 0
    nonzero_macs: int | None = None
    landing: str = ""
    speeds: tuple[SpeedLanding, ...] = ()
    history: tuple[dict[str, Any], ...] = ()
    drawn: str = ""
    before: dict[str, Any] = Field(default_factory=dict)
    architecture: str = ""
    seconds: float = 0.0
    training_seconds: float = 0.0


class Cell(Record):
    """One method, budget, seed and recovery.

    Parameters
    ----------
    outcome : {"ok", "failed", "not run"}
        `reason` says why if it is not "ok".
    dense, pruned, recovered : Scores, optional
        Scores of the dense network, of the pruned one before the recovery, and after it.
    lr, epochs : optional
        Learning rate and epochs of the recovery.
    key, folder, plan_folder : str
        Its job, and the folders of its weights and its plan, inside that of the study; empty without a job.
    """

    method: str
    removes: Literal["channels", "weights"]
    budget: str
    recovery: str
    from_scratch: bool
    seed: int
    key: str = ""
    folder: str = ""
    plan_folder: str = ""
    outcome: Literal["ok", "failed", "not run"]
    reason: str = ""
    dense: Scores | None = None
    pruned: Scores | None = None
    recovered: Scores | None = None
    lr: float | None = None
    epochs: int | None = None
    kept_epoch: int | None = None
    macs: tuple[int, int] | None = None
    params: tuple[int, int] | None = None
    zeros: int = 0
    landing: str = ""
    speeds: tuple[SpeedLanding, ...] = ()
    seconds: float = 0.0
    training_seconds: float = 0.0


class MeasuredRow(Record):
    """One pruned network against the dense one on one backend: a comparison, or why there is none."""

    method: str
    budget: str
    seed: int
    backend: str
    comparison: Comparison | None = None
    reason: str = ""
    same_as: str = Field("", description="the network of the same shape that was measured in its place")


class StudyResults(Document):
    """``study.json``.

    Parameters
    ----------
    recipe : dict
        The recipe as read.
    split : str
        How images are split, and what is chosen on which split.
    versions : dict of str to str
        Versions of the packages behind the results.
    processes : int
        Processes that shared each training.
    """

    schema_version: Literal[1, 2] = 2
    name: str
    recipe: dict[str, Any]
    split: str
    versions: dict[str, str] = Field(default_factory=dict)
    processes: int = 1
    cells: tuple[Cell, ...]
    measured: tuple[MeasuredRow, ...] = ()

    @property
    def metric(self) -> Metric:
        """Metric of its scores."""
        scores = (scores for cell in self.cells for scores in (cell.dense, cell.recovered) if scores is not None)
        return next((one.metric for one in scores), "accuracy")


def load_results(path: Path) -> StudyResults:
    """Read ``study.json``.

    Raises
    ------
    ResultsError
        The file is missing, broken, or of an unknown version.
    """
    try:
        results = StudyResults.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError, UnicodeDecodeError) as error:
        raise ResultsError(f"{path} does not hold results of a study") from error
    return results.model_copy(update={"schema_version": 2})


def read_result(folder: Path, key: str) -> JobResult | None:
    """Read the result of the job with this key; None if there is no readable one."""
    try:
        result = JobResult.model_validate_json((folder / RESULT).read_text(encoding="utf-8"))
    except (OSError, ValidationError, UnicodeDecodeError):
        return None
    return result if result.key == key else None


def write_result(folder: Path, result: JobResult) -> None:
    """Write the result of a job atomically."""
    result.save(folder / RESULT)
