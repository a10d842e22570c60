"""Check that the method and the trainings of a recipe fit its data and its target, before any work."""

from __future__ import annotations

from pydantic import BaseModel

from deploy.sources.datasets.data import metric_of
from deploy.sources.datasets.data_spec import DataSpec
from pruners.base import PruningMethod
from pruners.errors import MethodError
from pruners.recover.metric import loss_of
from pruners.recover.settings import TrainSettings
from pruners.target import Cost

__all__ = ["require_channels", "require_losses", "require_repeatable"]


def require_channels(method: PruningMethod) -> None:
    """Check that a method removes channels, without which no network gets faster.

    Raises
    ------
    MethodError
        It sets single weights to zero.
    """
    if method.removes != "channels":
        raise MethodError(f"method {method.name!r} sets single weights to zero, which makes no network faster")


def require_repeatable(method: PruningMethod, by: Cost | None) -> None:
    """Check that a method can prune several times, as a speed that is met by the cost `by` takes.

    Raises
    ------
    MethodError
        It trains while it prunes.
    """
    if by is not None and method.trains:
        raise MethodError(
            f"method {method.name!r} trains while it prunes, and a speed met by {by} takes up to ten prunings: leave "
            f"out the cost {by}, or take a method or settings that train nothing"
        )


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
