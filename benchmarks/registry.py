"""Which scenarios there are: what exactly one timed call contains."""

from __future__ import annotations

__all__ = ["describe", "names"]

_SCENARIOS = {
    "request": "host clock, depth 1, inputs in host memory to outputs in host memory",
}


def names() -> tuple[str, ...]:
    """List the scenarios."""
    return tuple(_SCENARIOS)


def describe(name: str) -> str:
    """Say what one timed call of scenario `name` contains.

    Raises
    ------
    KeyError
        There is no such scenario.
    """
    return _SCENARIOS[name]
