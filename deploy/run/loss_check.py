"""Check that the trainings in a recipe fit its data, before any work."""

from __future__ import annotations

from pydantic import BaseModel

from deploy.sources.datasets.data import metric_of
from deploy.sources.datasets.data_spec import DataSpec
from pruners.recover.metric import loss_of
from pruners.recover.settings import TrainSettings

__all__ = ["require_losses"]


def require_losses(data: DataSpec, *parts: BaseModel | None) -> None:
    """Check that every training in these parts of a recipe has a loss that fits the data's targets.

    Raises
    ------
    TrainingError
        Some loss does not fit.
    SourceError
        The data set is unknown.
    """
    metric = metric_of(data)
    for part in parts:
        if isinstance(part, TrainSettings):
            loss_of(metric, part.loss, part.label_smoothing)
        elif part is not None:
            within = [getattr(part, name) for name in type(part).model_fields]
            require_losses(data, *(value for value in within if isinstance(value, BaseModel)))
