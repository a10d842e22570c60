"""Errors of pruning.

PruneError                  root; the command line prints it as one line and exits with 2
├── InputError              the network or its example inputs are of a kind that cannot be pruned
├── TraceError              torch.export cannot trace the network; carries the exporter's reason in one line
├── NothingToPruneError     every group is locked or excluded, or the plan would remove nothing
├── SelectorError           a name pattern (exclude, ratios) matches no group
├── TargetError             the target is not reachable under the constraints
├── PlanError               a plan is malformed, or was made for another network
├── SurgeryError            the user's module cannot be made smaller (shapes baked into its code)
├── VerificationError       masked and compact networks differ
│   └── VacuousCheckError   nothing that was removed affects the output: the comparison says nothing
├── MethodError             a method does not apply to this network or lacks what it needs (data, loss)
├── ServiceError            timing or exporting needs another package, which is not available
├── UnknownMethodError      no method of that name is registered
└── TrainingError           training cannot start, resume or continue (checkpoint of other settings, loss not finite)
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = [
    "FOREIGN",
    "InputError",
    "MethodError",
    "NothingToPruneError",
    "PlanError",
    "PruneError",
    "SelectorError",
    "ServiceError",
    "SurgeryError",
    "TargetError",
    "TraceError",
    "TrainingError",
    "UnknownMethodError",
    "VacuousCheckError",
    "VerificationError",
    "did_you_mean",
    "first_line",
]

FOREIGN = (
    RuntimeError,
    TypeError,
    ValueError,
    AttributeError,
    AssertionError,
    NotImplementedError,
    KeyError,
    IndexError,
)
"""What torch.export, deepcopy and users' forward() are known to raise; `torch._dynamo` errors are RuntimeErrors."""


class PruneError(Exception):
    """Root of everything this package raises on purpose."""


class InputError(PruneError, ValueError):
    """The network or its example inputs are of a kind that cannot be pruned."""


class TraceError(PruneError):
    """torch.export cannot trace the network."""


class NothingToPruneError(PruneError):
    """Every group is locked or excluded, or the plan would remove nothing."""


class SelectorError(PruneError, ValueError):
    """A name pattern matches no group."""


class TargetError(PruneError, ValueError):
    """The target is not reachable under the constraints."""


class PlanError(PruneError, ValueError):
    """A plan is malformed, or was made for another network."""


class SurgeryError(PruneError):
    """The user's module cannot be made smaller."""


class VerificationError(PruneError):
    """Masked and compact networks differ."""


class VacuousCheckError(VerificationError):
    """The comparison of masked and compact networks would pass whatever the compact network computed."""


class MethodError(PruneError):
    """A method does not apply to this network or lacks what it needs."""


class ServiceError(PruneError):
    """Timing or exporting needs another package, which is not available."""


class UnknownMethodError(PruneError, KeyError):
    """No method of that name is registered."""

    __str__ = Exception.__str__


class TrainingError(PruneError):
    """Training cannot start, resume or continue."""


def first_line(error: BaseException) -> str:
    """Return the type and the first non-empty line of an error."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` with the known name nearest to `name`; empty if none is near."""
    near = get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
