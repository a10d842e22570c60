"""Which backends a speed can be requested on: those that time their layers. Imports no torch."""

from __future__ import annotations

from backends import registry
from pruners.errors import TargetError

__all__ = ["require_layer_times"]


def require_layer_times(backend: str) -> None:
    """Check that a backend can time layers, which a latency table is made of.

    Raises
    ------
    TargetError
        It has no profiler by layer.
    """
    if reason := registry.create(backend).why_no_layers:
        raise TargetError(f"{reason}, so no latency table can be made; ask for the speed on another backend")
