"""What can go wrong while measuring.

BenchmarkError              root; the command line prints it as one line and exits with 2
├── InputError              no example input can be made for this model
├── WorkerError             the measured process failed; carries the worker's own one-line reason
├── WrongAnswersError       the compiled model's answers differ from the reference
├── NotComparableError      two measurements that may not be compared
└── RecordError             a result file that is broken or of an unknown version
"""

from __future__ import annotations

__all__ = [
    "BenchmarkError",
    "InputError",
    "NotComparableError",
    "RecordError",
    "WorkerError",
    "WrongAnswersError",
]


class BenchmarkError(Exception):
    """Root of everything this package raises on purpose."""


class InputError(BenchmarkError, ValueError):
    """No example input can be made for this model."""


class WorkerError(BenchmarkError):
    """The measured process failed."""


class WrongAnswersError(BenchmarkError):
    """The compiled model's answers differ from the reference."""


class NotComparableError(BenchmarkError, ValueError):
    """Two measurements that may not be compared."""


class RecordError(BenchmarkError, ValueError):
    """A result file that is broken or of an unknown version."""
