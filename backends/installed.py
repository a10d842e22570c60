"""Check whether a runtime is installed without importing it, and import it."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from types import ModuleType

from backends.base import Availability
from backends.errors import BackendUnavailableError, one_line

__all__ = ["import_runtime", "missing", "version_of"]


def version_of(*distributions: str) -> str | None:
    """Return the version of the first of `distributions` that is installed, or None."""
    for distribution in distributions:
        try:
            return version(distribution)
        except PackageNotFoundError:
            continue
    return None


def missing(module: str, install: str) -> Availability | None:
    """Return how to install `module` if it is missing, None if it is installed."""
    if find_spec(module) is not None:
        return None
    return Availability(ok=False, reason=f"{module} is not installed", hint=install)


def import_runtime(module: str) -> ModuleType:
    """Import a runtime that is installed according to `missing`.

    Raises
    ------
    BackendUnavailableError
        It is installed but does not load (a wrong build, a missing system library).
    """
    try:
        return import_module(module)
    except (ImportError, OSError) as error:
        package = module.partition(".")[0].replace("_", "-")
        raise BackendUnavailableError(
            f"{module} is installed but does not load: {one_line(error)}; pip install --force-reinstall {package}"
        ) from error
