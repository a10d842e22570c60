"""CIFAR-10 and CIFAR-100: 50,000 + 10,000 colour images of 32 x 32, through torchvision."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np

from deploy.errors import SourceError
from deploy.sources.boundary import cause
from deploy.sources.datasets.family import Family, Pixels, Raw

__all__ = ["Cifar10", "Cifar100"]


class Cifar10(Family):
    """Ten classes. torchvision compares the files with their published MD5 before it reads them.

    References
    ----------
    A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
    """

    modules = ("torch", "torchvision")
    wanted = "cifar-10-batches-py"
    hint = (
        "set data.root or PRUNE_DEPLOY_DATA to the folder that holds cifar-10-batches-py (unpacked from "
        "cifar-10-python.tar.gz)"
    )
    _torchvision_class: ClassVar[str] = "CIFAR10"

    def places(self, root: Path) -> tuple[Path, ...]:
        """Accept the folder of the batches, or its parent."""
        return (root.parent if root.name == self.wanted else root,)

    def lacks(self, place: Path) -> str | None:
        """Look for the folder; the MD5 of its files is checked when they are read."""
        return None if (place / self.wanted).is_dir() else f"no {self.wanted}"

    def read(self, place: Path | None) -> Raw:
        """Read both official parts."""
        from torchvision import datasets

        assert place is not None
        data_class = getattr(datasets, self._torchvision_class)
        try:
            train, test = (data_class(place, train=part, download=False) for part in (True, False))
        except (RuntimeError, OSError, EOFError) as error:
            raise SourceError(
                f"data set {self.name!r} in {place / self.wanted} is incomplete or damaged "
                f"({cause(error)}): unpack it again"
            ) from error
        parts = (
            Pixels(images=np.asarray(part.data, dtype=np.uint8), labels=np.asarray(part.targets, dtype=np.int64))
            for part in (train, test)
        )
        return Raw(classes=tuple(train.classes), train=next(parts), test=next(parts))


class Cifar100(Cifar10):
    """A hundred classes (the fine labels)."""

    wanted = "cifar-100-python"
    hint = (
        "set data.root or PRUNE_DEPLOY_DATA to the folder that holds cifar-100-python (unpacked from "
        "cifar-100-python.tar.gz)"
    )
    _torchvision_class = "CIFAR100"
