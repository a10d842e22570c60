"""What can go wrong above pruning, compiling and measuring.

DeployError                 root; the command line prints it as one line and exits with 2
├── RecipeError             a recipe is missing, malformed, or has an unknown key
├── SourceError             a network, its weights or a data set cannot be found or read
├── ExportError             the network cannot be exported, or the ONNX file is not valid
├── BundleError             a bundle is incomplete, changed after it was written, or of an unknown version
├── OutputError             results cannot be written (read-only folder, full disk)
├── ResultsError            a results file is missing, broken, or of an unknown version
└── ExtraMissingError       a command needs an optional part that is not installed
"""

from __future__ import annotations

__all__ = [
    "BundleError",
    "DeployError",
    "ExportError",
    "ExtraMissingError",
    "OutputError",
    "RecipeError",
    "ResultsError",
    "SourceError",
]


class DeployError(Exception):
    """Root of everything this package raises on purpose."""


class RecipeError(DeployError, ValueError):
    """A recipe is missing, malformed, or has an unknown key."""


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


class ExtraMissingError(DeployError):
    """A command needs an optional part that is not installed."""
