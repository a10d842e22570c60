"""scikit-learn's 1,797 hand-written digits of 8 x 8 grey pixels; they come with the library."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from deploy.sources.datasets.family import Family, Pixels, Raw
from prune_deploy import how_to_install

__all__ = ["Digits"]

_GREY_LEVELS = 16  # values are 0 to 16


class Digits(Family):
    """The test half of UCI's "Optical Recognition of Handwritten Digits"; it has no official split."""

    modules = ("torch", "sklearn")
    embedded = True
    flips = False
    wanted = "scikit-learn's digits"
    hint = how_to_install("prune")

    def read(self, place: Path | None) -> Raw:  # noqa: ARG002  (embedded: there is no place)
        """Read the images from the library."""
        from sklearn.datasets import load_digits

        bunch = load_digits()
        images = np.rint(bunch.images * (255 / _GREY_LEVELS)).astype(np.uint8)[..., None]
        labels = bunch.target.astype(np.int64)
        return Raw(classes=tuple("0123456789"), train=Pixels(images=images, labels=labels))
