"""The torch half of the study, in a process of its own: build one published network and its parent, export both.

Started as ``python -m deploy.studies.published.prepare NAME FOLDER``; leaves ``dense.onnx`` and ``pruned.onnx`` there.
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.process.child import Child, last_words
from benchmarks.process.serving import end_with_parent
from deploy.errors import DeployError
from deploy.studies.published.catalogue import CatalogueEntry, load_catalogue

__all__ = ["LABELS", "BuildError", "export_apart", "export_pair", "main"]

LABELS = ("dense", "pruned")
"""Names of the two ONNX files and of the two sides of the comparison, the baseline first."""


class BuildError(DeployError):
    """A published network could not be built or exported; the message is the child's own."""


def export_apart(entry: CatalogueEntry, folder: Path) -> None:
    """Build and export both networks in a child, so that this process holds no torch.

    Raises
    ------
    BuildError
        The child failed.
    """
    with Child(["-m", "deploy.studies.published.prepare", entry.name, str(folder)], who=entry.name) as child:
        if child.wait():
            reason = last_words(child.output()).removeprefix("deploy: ") or child.exit_reason()
            raise BuildError(f"{entry.name} cannot be built: {reason}")


def export_pair(entry: CatalogueEntry, folder: Path) -> None:
    """Build both networks and write them as ONNX files with a free batch dimension.

    Raises
    ------
    CatalogueError, ExportError
        They are not what the catalogue counts, or cannot be exported.
    """
    from deploy.export.export import export_onnx
    from deploy.studies.published.build import build_pair, example

    for label, network in zip(LABELS, build_pair(entry), strict=True):
        export_onnx(network, example(entry.parent), folder / f"{label}.onnx")


def main() -> None:
    """Export the network that the command line names."""
    from deploy.user_errors import guarded

    name, folder = sys.argv[1:]

    def prepare() -> None:
        (entry,) = load_catalogue().select((name,))
        export_pair(entry, Path(folder))

    guarded(prepare)


if __name__ == "__main__":
    end_with_parent()
    main()
