"""Helpers for third-party code: what must be installed, in which version, and what its exceptions say."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from deploy.errors import ExtraMissingError
from prune_deploy import how_to_install

__all__ = ["cause", "missing", "require", "versions"]

_DISTRIBUTIONS = {"sklearn": "scikit-learn", "skimage": "scikit-image", "PIL": "pillow"}


def missing(*modules: str) -> tuple[str, ...]:
    """List which of `modules` cannot be found, by the name they are installed by; nothing is imported."""
    return tuple(_DISTRIBUTIONS.get(module, module) for module in modules if find_spec(module) is None)


def require(who: str, *modules: str) -> None:
    """Make sure that `modules` can be imported.

    Raises
    ------
    ExtraMissingError
        One is not installed; the message says who needs it and how to get it.
    """
    if absent := missing(*modules):
        raise ExtraMissingError(f"{who} needs {' and '.join(absent)}: {how_to_install('prune')}")


def cause(error: BaseException) -> str:
    """Put a foreign exception into one line: its class and the first line of its message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def versions(*distributions: str) -> dict[str, str]:
    """Return the installed version of each distribution, or ``"not installed"``."""
    versions = {}
    for name in distributions:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    return versions
