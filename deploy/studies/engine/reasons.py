"""Turn an exception of a job into the one line of its row."""

from __future__ import annotations

from backends.errors import BackendError
from deploy.errors import DeployError
from pruners.errors import PruneError, first_line

__all__ = ["REFUSALS", "reason_of"]

REFUSALS = (PruneError, DeployError, BackendError)
"""Errors that say why something is refused; any other is a failure of a network, a method or a library."""
_LIMIT = 400


def reason_of(error: BaseException) -> str:
    """Return the message of a refusal, or the first line of another error with its class."""
    text = str(error) if isinstance(error, REFUSALS) else first_line(error)
    return " ".join(text.split())[:_LIMIT]
