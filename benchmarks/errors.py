"""Exceptions of this package: what can go wrong while measuring.

BenchmarkError              root; the command line prints it as one line and exits with 2
├── SettingError            a setting of the measurement is invalid
├── InputError              no example input can be made for this model, or a reference does not fit it
├── WorkerError             the measured process failed; carries the worker's own one-line reason
├── WrongAnswersError       the compiled model's answers differ from the reference
├── RandomAnswersError      a model's answers differ from call to call
├── NotComparableError      two measurements must not be compared
├── MachineBusyError        another measurement is using the machine
└── RecordError             a result file is broken or of an unknown version
"""

from __future__ import annotations

__all__ = [
    "BenchmarkError",
    "InputError",
    "MachineBusyError",
    "NotComparableError",
    "RandomAnswersError",
    "RecordError",
    "SettingError",
    "WorkerError",
    "WrongAnswersError",
]


class BenchmarkError(Exception):
    """Base class of every exception this package raises on purpose."""


class SettingError(BenchmarkError, ValueError):
    """A setting of the measurement is invalid."""


class InputError(BenchmarkError, ValueError):
    """No example input can be made for this model, or a reference does not fit it."""


class WorkerError(BenchmarkError):
    """The measured process failed.

    Parameters
    ----------
    reason : str
        One line.
    kind : str, default="WorkerError"
        Class of the error raised there, for example ``"ModelLoadError"``; ``"WorkerError"`` if the process died or did
        not answer.
    """

    def __init__(self, reason: str, kind: str = "WorkerError") -> None:
        super().__init__(reason)
        self.kind = kind


class NoAnswerError(WorkerError):
    """A process did not answer in time and was killed."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, NoAnswerError.__name__)


class WrongAnswersError(BenchmarkError):
    """The compiled model's answers differ from the reference."""


class RandomAnswersError(BenchmarkError):
    """A model's answers differ from call to call, so they cannot be checked."""


class NotComparableError(BenchmarkError, ValueError):
    """Two measurements must not be compared."""


class RecordError(BenchmarkError, ValueError):
    """A result file is broken or of an unknown version."""


class MachineBusyError(BenchmarkError):
    """Another measurement is using the machine."""
