"""What can go wrong while measuring.

BenchmarkError              root; the command line prints it as one line and exits with 2
├── SettingError            a setting of the measurement that makes no sense
├── InputError              no example input can be made for this model, or a reference does not fit it
├── WorkerError             the measured process failed; carries the worker's own one-line reason
├── WrongAnswersError       the compiled model's answers differ from the reference
├── RandomAnswersError      a model's answers differ from call to call
├── NotComparableError      two measurements that may not be compared
├── MachineBusyError        another measurement holds the machine
└── RecordError             a result file that is broken or of an unknown version
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
    """Root of everything this package raises on purpose."""


class SettingError(BenchmarkError, ValueError):
    """A setting of the measurement that makes no sense."""


class InputError(BenchmarkError, ValueError):
    """No example input can be made for this model, or a reference does not fit it."""


class WorkerError(BenchmarkError):
    """The measured process failed.

    Parameters
    ----------
    reason : str
        One line.
    kind : str, default="WorkerError"
        Class of the error as raised there, for example ``"ModelLoadError"``; ``"WorkerError"`` when the process died or
        gave no answer.
    """

    def __init__(self, reason: str, kind: str = "WorkerError") -> None:
        super().__init__(reason)
        self.kind = kind


class NoAnswerError(WorkerError):
    """A process gave no answer in time, and was killed."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, NoAnswerError.__name__)


class WrongAnswersError(BenchmarkError):
    """The compiled model's answers differ from the reference."""


class RandomAnswersError(BenchmarkError):
    """A model's answers differ from call to call: there is nothing to check them by."""


class NotComparableError(BenchmarkError, ValueError):
    """Two measurements that may not be compared."""


class RecordError(BenchmarkError, ValueError):
    """A result file that is broken or of an unknown version."""


class MachineBusyError(BenchmarkError):
    """Another measurement holds the machine."""
