"""Registry of scenarios: their names and what each measures."""

from __future__ import annotations

from benchmarks.scenarios import SCENARIOS

__all__ = ["describe", "names"]

_REQUEST = "host clock, depth 1, inputs in host memory to outputs in host memory"


def names() -> tuple[str, ...]:
    """List the scenarios: the one of `deploy bench`, then those of `deploy load`."""
    return ("request", *SCENARIOS)


def describe(name: str) -> str:
    """Return what scenario `name` measures.

    Raises
    ------
    KeyError
        There is no such scenario.
    """
    return _REQUEST if name == "request" else SCENARIOS[name].definition
