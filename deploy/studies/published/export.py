"""Export the two ONNX files of a published network in a child process, so this one loads no torch."""

from __future__ import annotations

from pathlib import Path

from benchmarks.process.child import Child, last_words
from deploy.errors import DeployError
from deploy.run.child import program_of
from deploy.studies.published.catalogue import CatalogueEntry

__all__ = ["LABELS", "BuildError", "export_apart"]

LABELS = ("dense", "pruned")
"""Names of the two ONNX files and of the two models of the comparison, the baseline first."""


class BuildError(DeployError):
    """A published network could not be built or exported; the message is the child's own."""


def export_apart(entry: CatalogueEntry, folder: Path) -> None:
    """Build and export both networks in a child process.

    Raises
    ------
    BuildError
        The child failed.
    """
    program = program_of("deploy.studies.published.build:export_pair", entry.name, folder)
    with Child(program, who=entry.name) as child:
        if code := child.wait():
            line = last_words(child.output()) if code > 0 else ""
            reason = line.removeprefix("deploy: ") or child.exit_reason()
            raise BuildError(f"{entry.name} cannot be built: {reason}")
