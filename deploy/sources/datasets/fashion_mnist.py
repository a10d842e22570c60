"""Fashion-MNIST: 60,000 + 10,000 grey images of 28 x 28, from Debian's package or torchvision's folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from deploy.errors import SourceError
from deploy.sources.datasets.family import Family, Pixels, Raw
from deploy.sources.datasets.idx import find_idx, read_idx

__all__ = ["FashionMnist"]

_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
_PARTS = {"train": "train", "test": "t10k"}


class FashionMnist(Family):
    """Fashion-MNIST, read from its four IDX files directly: torchvision's class cannot read Debian's gzipped ones.

    References
    ----------
    H. Xiao, K. Rasul, R. Vollgraf, "Fashion-MNIST", 2017, arXiv 1708.07747.
    """

    installed = (Path("/usr/share/datasets/fashion-mnist"),)
    wanted = "train-images-idx3-ubyte[.gz] and its three companions"
    hint = (
        "apt install dataset-fashion-mnist, or set data.root or PRUNE_DEPLOY_DATA to a folder that holds "
        "FashionMNIST/raw as torchvision makes it"
    )

    def places(self, root: Path) -> tuple[Path, ...]:
        """Look for torchvision's layout, a folder ``fashion-mnist``, and the files themselves."""
        return (root / "FashionMNIST" / "raw", root / "fashion-mnist", root)

    def lacks(self, place: Path) -> str | None:
        """Name the first of the four files that is missing."""
        names = (name for prefix in _PARTS.values() for name in _file_names(prefix))
        absent = next((name for name in names if find_idx(place, name) is None), None)
        return None if absent is None else f"no {absent}"

    def read(self, place: Path | None) -> Raw:
        """Read the four files."""
        assert place is not None
        parts = {part: _read_part(place, prefix) for part, prefix in _PARTS.items()}
        return Raw(classes=_CLASSES, train=parts["train"], test=parts["test"])


def _file_names(prefix: str) -> tuple[str, str]:
    return f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte"


def _read_part(place: Path, prefix: str) -> Pixels:
    paths = [find_idx(place, name) for name in _file_names(prefix)]
    assert paths[0] is not None
    assert paths[1] is not None
    images, labels = read_idx(paths[0], 3), read_idx(paths[1], 1)
    if len(images) != len(labels):
        raise SourceError(f"data file {paths[1]} labels {len(labels)} images, {paths[0]} has {len(images)}")
    if labels.size == 0 or int(labels.max()) >= len(_CLASSES):
        raise SourceError(f"data file {paths[1]}: labels are 0 to {len(_CLASSES) - 1}, at least one")
    return Pixels(images=images[..., None], labels=labels.astype(np.int64))
