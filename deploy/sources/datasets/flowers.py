"""Oxford Flowers-102 through torchvision: photographs of any size in 102 classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from deploy.errors import SourceError
from deploy.sources.boundary import cause
from deploy.sources.datasets.family import Family, Files, Raw

__all__ = ["Flowers102"]

_FOLDER = "flowers-102"
_FILES = ("jpg", "imagelabels.mat", "setid.mat")


class Flowers102(Family):
    """Flowers-102; its 2,040 training images are the official train and validation parts, as in the pruning papers.

    References
    ----------
    M.-E. Nilsback, A. Zisserman, "Automated Flower Classification over a Large Number of Classes", ICVGIP 2008.
    The split into 2,040 and 6,149 images: P. Molchanov et al., ICLR 2017, arXiv 1611.06440.
    """

    modules = ("torch", "torchvision", "scipy")
    image_size = 224
    wanted = f"{_FOLDER} with {', '.join(_FILES)}"
    hint = (
        f"set data.root or PRUNE_DEPLOY_DATA to the folder that holds {_FOLDER} (102flowers.tgz unpacked into it, with "
        "the two .mat files)"
    )

    def places(self, root: Path) -> tuple[Path, ...]:
        """Accept the folder itself, or its parent."""
        return (root.parent if root.name == _FOLDER else root,)

    def lacks(self, place: Path) -> str | None:
        """Name the first file or folder that is missing."""
        absent = next((name for name in _FILES if not (place / _FOLDER / name).exists()), None)
        return None if absent is None else f"no {_FOLDER}/{absent}"

    def read(self, place: Path | None) -> Raw:
        """List the images of the three official parts."""
        from torchvision import datasets

        assert place is not None
        folder = place / _FOLDER
        try:
            parts = {
                name: datasets.Flowers102(place, split=name, download=False, loader=Path)
                for name in ("train", "val", "test")
            }
        except (RuntimeError, OSError, ValueError, KeyError) as error:
            raise SourceError(
                f"data set {self.name!r} in {folder} is incomplete or damaged ({cause(error)}): unpack it again"
            ) from error
        listed = {name: [part[index] for index in range(len(part))] for name, part in parts.items()}
        absent = next((path for rows in listed.values() for path, _ in rows if not path.is_file()), None)
        if absent is not None:
            raise SourceError(f"data set {self.name!r} lacks image {absent}: unpack 102flowers.tgz again")
        return Raw(
            classes=tuple(datasets.Flowers102.classes),
            train=_files(folder, listed["train"] + listed["val"]),
            test=_files(folder, listed["test"]),
        )


def _files(folder: Path, rows: list[tuple[Path, int]]) -> Files:
    return Files(
        folder=folder,
        paths=tuple(path.relative_to(folder).as_posix() for path, _ in rows),
        labels=np.array([label for _, label in rows], dtype=np.int64),
    )
