"""Exceptions of this package: what can go wrong between an ONNX file and a running model.

BackendError                    root; the command line prints it as one line and exits with 2
├── UnknownBackendError         no backend of that name is registered
├── BackendUnavailableError     the runtime or its device is not usable on this machine
├── OptionError                 this backend cannot honour an explicit option (precision, threads, device)
├── ModelLoadError              the file is missing or broken, or the runtime cannot compile it
├── ArtefactError              a compiled model cannot be stored, or a stored one cannot be loaded
├── FeedError                   an input has the wrong name, shape or type
└── RunError                    the runtime failed while executing
    └── OutOfMemoryError        it did not get the memory it asked for
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = [
    "ArtefactError",
    "BackendError",
    "BackendUnavailableError",
    "FeedError",
    "ModelLoadError",
    "OptionError",
    "OutOfMemoryError",
    "RunError",
    "UnknownBackendError",
    "did_you_mean",
    "one_line",
    "shortened",
]


class BackendError(Exception):
    """Base class of every exception this package raises on purpose."""


class UnknownBackendError(BackendError, KeyError):
    """No backend of that name is registered."""

    __str__ = Exception.__str__


class BackendUnavailableError(BackendError):
    """The runtime or its device is not usable on this machine."""


class OptionError(BackendError, ValueError):
    """The backend cannot honour an explicit option."""


class ModelLoadError(BackendError):
    """The file is missing or broken, or the runtime cannot compile it."""


class ArtefactError(BackendError):
    """A compiled model cannot be stored, or a stored one cannot be loaded."""


class FeedError(BackendError, ValueError):
    """An input has the wrong name, shape or type."""


class RunError(BackendError):
    """The runtime failed while executing."""


class OutOfMemoryError(RunError):
    """The runtime did not get the memory it asked for."""


def one_line(error: BaseException, limit: int = 300) -> str:
    """Return an error's message as one line of at most `limit` characters; its type if it has no message."""
    return shortened(" ".join(str(error).split()) or type(error).__name__, limit)


def shortened(text: str, limit: int) -> str:
    """Shorten a text to at most `limit` characters by cutting its middle: libraries name the reason last."""
    head = limit // 3
    return text if len(text) <= limit else f"{text[:head]} ... {text[len(text) - (limit - head - 5) :]}"


def did_you_mean(name: str, known: Iterable[str], *, prefix: str = "", cutoff: float = 0.6) -> str:
    """Return ``"; did you mean 'x'?"`` for the closest known name, an empty string if none is close."""
    near = get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return f"; did you mean '{prefix}{near[0]}'?" if near else ""
