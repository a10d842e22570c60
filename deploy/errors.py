"""Errors of the package `deploy`; pruning, compiling and measuring have their own.

DeployError                 root; the command line prints it as one line and exits with 2
├── RecipeError             a recipe is missing, malformed, or has an unknown key
├── CheckFileError          a check file is missing or malformed, or its baseline cannot be obtained
├── SourceError             a network, its weights or a data set cannot be found or read
├── ExportError             the network cannot be exported, or the ONNX file is not valid
├── BundleError             a bundle is incomplete, changed after it was written, or of an unknown version
├── OutputError             results cannot be written (read-only folder, full disk)
├── ResultsError            a results file is missing, broken, or of an unknown version
├── HistoryError            a history file is missing, not one of ours, damaged, or cannot be written
├── BoardError              a board cannot be reached, lacks something, or sends an answer that is not ours
├── ExtraMissingError       a command needs an extra that is not installed
└── CallError               a call from Python failed in another package; its cause is the original error
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = [
    "BoardError",
    "BundleError",
    "CallError",
    "CheckFileError",
    "DeployError",
    "ExportError",
    "ExtraMissingError",
    "HistoryError",
    "OutputError",
    "RecipeError",
    "ResultsError",
    "SourceError",
    "as_call_errors",
    "is_mistake",
]

# Recognised by name, so that reporting a mistake imports no package that the work itself did not need.
_ROOTS = {
    ("backends.errors", "BackendError"),
    ("benchmarks.errors", "BenchmarkError"),
    ("deploy.errors", "DeployError"),
    ("pruners.errors", "PruneError"),
}


class DeployError(Exception):
    """Root of everything this package raises on purpose."""


class RecipeError(DeployError, ValueError):
    """A recipe is missing, malformed, or has an unknown key."""


class CheckFileError(DeployError, ValueError):
    """A check file is missing or malformed, or its baseline cannot be obtained."""


class SourceError(DeployError):
    """A network, its weights or a data set cannot be found or read."""


class ExportError(DeployError):
    """The network cannot be exported, or the ONNX file is not valid."""


class BundleError(DeployError):
    """A bundle is incomplete, changed after it was written, or of an unknown version."""


class OutputError(DeployError):
    """Results cannot be written."""


class ResultsError(DeployError):
    """A results file is missing, broken, or of an unknown version."""


class HistoryError(DeployError):
    """A history file is missing, not one of ours, damaged, of a newer version, or cannot be written."""


class BoardError(DeployError):
    """A board cannot be reached, lacks something, or sends an answer that is not ours."""


class ExtraMissingError(DeployError):
    """A command needs an extra that is not installed."""


class CallError(DeployError):
    """A call from Python failed in measuring, compiling or pruning; ``__cause__`` is the original error."""


def is_mistake(error: BaseException) -> bool:
    """Return whether one of our packages raised this error on purpose."""
    return bool(_ROOTS & {(kind.__module__, kind.__name__) for kind in type(error).__mro__})


@contextmanager
def as_call_errors(*passing: type[Exception]) -> Iterator[None]:
    """Turn errors that the other packages raise on purpose into `CallError`, with the same message in one line.

    Parameters
    ----------
    *passing : type
        Errors that pass unchanged.

    Raises
    ------
    DeployError
        The block raised one of these errors; anything else passes unchanged.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, (DeployError, *passing)) or not is_mistake(error):
            raise
        raise CallError(" ".join(str(error).split())) from error
