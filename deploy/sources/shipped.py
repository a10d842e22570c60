"""Build the networks that ship, for the data's classes and channels."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from deploy.errors import SourceError
from deploy.files.validation_errors import suggestion
from deploy.sources.boundary import cause
from deploy.sources.libraries import OPTION_ERRORS
from deploy.sources.registry import NETWORKS

if TYPE_CHECKING:
    from torch import nn

    from deploy.sources.network_spec import NetworkSpec

__all__ = ["DECIDED_BY_DATA", "ENLARGING", "SHIPPED", "make_shipped"]

SHIPPED = ("cifar", "restoration")
"""Prefixes of their names, before the colon."""
ENLARGING = ("restoration:srresnet", "restoration:edsr")
"""Networks that return a larger image, by their option ``scale``."""
DECIDED_BY_DATA = ("n_classes", "num_classes", "in_channels", "in_chans")
"""Options of a network that the data decides."""


def make_shipped(spec: NetworkSpec, options: dict[str, Any], n_classes: int | None, in_channels: int) -> nn.Module:
    """Build one of our networks.

    Raises
    ------
    SourceError
        Unknown or invalid option, or a network that restores images, with data that has classes.
    """
    module, _, attribute = NETWORKS[spec.name].partition(":")
    factory: Callable[..., nn.Module] = getattr(import_module(module), attribute)
    parameters = inspect.signature(factory).parameters
    allowed = [name for name in parameters if name not in DECIDED_BY_DATA]
    for key in options:
        if key not in (*allowed, *DECIDED_BY_DATA):
            raise SourceError(f"network {spec.name}: unknown option {key!r}{suggestion(key, allowed)}")
    if n_classes is not None:
        if "n_classes" not in parameters:
            raise SourceError(
                f"network {spec.name} restores images, the data has {n_classes} classes; take data of images to restore"
            )
        options["n_classes"] = n_classes
    try:
        return factory(in_channels=in_channels, **options)
    except OPTION_ERRORS as error:
        raise SourceError(f"network {spec.name} with options {spec.options}: {cause(error)}") from error
