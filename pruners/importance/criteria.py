"""The criteria by name, and how to create one. Importing this module imports no torch."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from pruners.errors import MethodError, did_you_mean

if TYPE_CHECKING:
    from pruners.importance.criterion import Criterion

__all__ = ["create_criterion", "criterion_class", "criterion_names"]

_TABLE = {
    "l1": "weights:L1Norm",
    "l2": "weights:L2Norm",
    "min_weight": "weights:MinWeight",
    "bn_scale": "norm_scale:BatchNormScale",
    "fpgm": "geometric_median:GeometricMedian",
    "activation_mean": "activations:ActivationMean",
    "activation_std": "activations:ActivationStd",
    "apoz": "activations:NonZeros",
    "mutual_information": "information:MutualInformation",
    "obd": "curvature:OptimalBrainDamage",
    "hessian_diagonal": "taylor_gates:HessianDiagonal",
    "taylor": "taylor:Taylor",
    "taylor_fo": "taylor_gates:TaylorFirstOrder",
    "taylor_fo_bn": "norm_scale:TaylorBatchNorm",
    "taylor_so": "taylor_gates:TaylorSecondOrder",
    "random": "random_scores:RandomScores",
}


def criterion_names() -> tuple[str, ...]:
    """List the criteria: on weights, on activations, on derivatives, and the baseline."""
    return tuple(_TABLE)


def criterion_class(name: str) -> type[Criterion]:
    """Return the class of the criterion called `name`, with its docstring, paper and options, without creating one.

    Raises
    ------
    MethodError
        No such criterion; the message names the nearest one.
    """
    if name not in _TABLE:
        raise MethodError(f"unknown criterion {name!r}{did_you_mean(name, _TABLE)} (there are: {', '.join(_TABLE)})")
    module, _, attribute = _TABLE[name].partition(":")
    criterion: type[Criterion] = getattr(import_module(f"pruners.importance.measures.{module}"), attribute)
    return criterion


def create_criterion(name: str, **options: Any) -> Criterion:
    """Return the criterion called `name` with its options.

    Raises
    ------
    MethodError
        No such criterion, or an unknown or illegal option.
    """
    kind = criterion_class(name)
    try:
        return kind(**options)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        option = ".".join(map(str, problem["loc"]))
        if problem["type"] == "extra_forbidden":
            known = ", ".join(kind.model_fields) or "none"
            raise MethodError(f"criterion {name!r}: unknown option {option!r} (there are: {known})") from error
        raise MethodError(
            f"criterion {name!r}: option {option!r}: {problem['msg']}, got {problem['input']!r}"
        ) from error
