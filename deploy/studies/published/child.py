"""Build and export one published network and its parent (``python -m deploy.studies.published.child NAME FOLDER``).

Leaves ``dense.onnx`` and ``pruned.onnx`` in the folder.
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.process.serving import end_with_parent
from deploy.export.export import export_onnx
from deploy.studies.published.build import build_pair, example
from deploy.studies.published.catalogue import CatalogueEntry, load_catalogue
from deploy.studies.published.export import LABELS
from deploy.user_errors import guarded

__all__ = ["export_pair", "main"]


def export_pair(entry: CatalogueEntry, folder: Path) -> None:
    """Build both networks and write them as ONNX files with a free batch dimension.

    Raises
    ------
    CatalogueError, ExportError
        They are not what the catalogue counts, or cannot be exported.
    """
    for label, network in zip(LABELS, build_pair(entry), strict=True):
        export_onnx(network, example(entry.parent), folder / f"{label}.onnx")


def main() -> None:
    """Export the network that the command line names."""
    name, folder = sys.argv[1:]

    def export() -> None:
        (entry,) = load_catalogue().select((name,))
        export_pair(entry, Path(folder))

    guarded(export)


if __name__ == "__main__":
    end_with_parent()
    main()
