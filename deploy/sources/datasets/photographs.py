"""Image-restoration data: colour photographs from installed libraries, made smaller or noisy. Imports no torch."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import numpy as np

from deploy.errors import SourceError
from deploy.sources.boundary import cause
from deploy.sources.datasets.family import Family, Photographs, Raw

__all__ = ["Denoising", "SuperResolution", "ToRestore"]

_FILES = (
    ("skimage", "data/astronaut.png"),
    ("skimage", "data/chelsea.png"),
    ("skimage", "data/coffee.png"),
    ("skimage", "data/motorcycle_left.png"),
    ("skimage", "data/rocket.jpg"),
    ("sklearn", "datasets/images/china.jpg"),
    ("sklearn", "datasets/images/flower.jpg"),
)
"""Every colour photograph taken by a camera in the two wheels; one of the stereo pair, as both show the same."""

_TEST_FRACTION = 0.3  # two of the seven: one photograph says little


class ToRestore(Family):
    """Seven photographs, from which inputs are made on access. Each photograph is in one part only.

    A subclass says by which factor the network enlarges, and how strong the noise is.
    """

    modules = ("torch", "PIL", "skimage", "sklearn")
    embedded = True
    task = "restoration"
    wanted = "photographs of scikit-image and scikit-learn"
    side: ClassVar[int]
    """Default side of the input patches."""

    @property
    def scale(self) -> int:
        """Side of the target over that of the input."""
        return 1

    @property
    def sigma(self) -> float:
        """Standard deviation of the noise, for values in [0, 1]; 0 without noise."""
        return 0.0

    def read(self, place: Path | None) -> Raw:  # noqa: ARG002  (embedded: there is no place)
        """Read the photographs from the libraries' folders."""
        from PIL import Image

        images = []
        for package, name in _FILES:
            path = _folder(package) / name
            try:
                with Image.open(path) as image:
                    images.append(np.asarray(image.convert("RGB")))
            except Exception as error:
                raise SourceError(
                    f"data set {self.name!r}: photograph {name} of {package} cannot be read ({cause(error)}); install "
                    "that library again"
                ) from error
        names = tuple(Path(name).stem for _, name in _FILES)
        return Raw(classes=(), train=Photographs(names=names, images=tuple(images)), test_fraction=_TEST_FRACTION)


class SuperResolution(ToRestore):
    """``super-resolution:SCALE``: the input is the target, downscaled by PIL's bicubic filter."""

    argument_form = "SCALE"
    hint = "write super-resolution:2, :3 or :4"
    side = 24

    @property
    def scale(self) -> int:
        """The number in the name."""
        if self.argument not in ("2", "3", "4"):
            raise SourceError(f"data set {self.name!r}: the scale is 2, 3 or 4, got {self.argument!r}")
        return int(self.argument)


class Denoising(ToRestore):
    """``denoising:SIGMA``: the input is the target with white Gaussian noise; it is not clipped to [0, 1]."""

    argument_form = "SIGMA"
    hint = "write denoising:SIGMA with the noise's standard deviation in grey levels of 255, for example denoising:25"
    side = 48

    @property
    def sigma(self) -> float:
        """The number in the name, divided by 255."""
        try:
            levels = float(self.argument)
        except ValueError:
            levels = 0.0
        if not 0 < levels <= 255:
            raise SourceError(
                f"data set {self.name!r}: sigma is the noise's deviation in grey levels, above 0 and up to 255; "
                f"got {self.argument!r}"
            )
        return levels / 255


def _folder(package: str) -> Path:
    """Find the folder of an installed package without importing it."""
    spec = find_spec(package)
    assert spec is not None, "the caller made sure that it is installed"
    assert spec.origin is not None
    return Path(spec.origin).parent
