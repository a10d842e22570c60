"""Prepare raw images for a network: size, channels, normalisation, augmentation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from deploy.errors import SourceError
from deploy.sources.datasets.data_spec import DataSpec, Normalisation
from deploy.sources.datasets.family import Family, Files, Part, Pixels
from deploy.sources.datasets.images import (
    USUAL_CROP,
    FileImages,
    MemoryImages,
    Normalise,
    ShiftAndFlip,
    file_statistics,
    pixel_statistics,
)
from deploy.sources.datasets.split import Draw, stratified

if TYPE_CHECKING:
    from torch import Tensor
    from torch.utils.data import Dataset

__all__ = ["Preparation", "given_normalisation"]

_MAX_STATISTICS_IMAGES = 2000
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean, std of torchvision's published weights


def given_normalisation(
    wanted: Literal["train", "imagenet", "none"] | Normalisation, channels: int
) -> tuple[Normalise, str] | None:
    """Return a normalisation that is independent of the training images, and its source; None for "train".

    Raises
    ------
    SourceError
        It is for another number of channels.
    """
    if isinstance(wanted, Normalisation):
        if len(wanted.mean) != channels:
            raise SourceError(f"data.normalise has {len(wanted.mean)} numbers, the images have {channels} channels")
        return Normalise(wanted.mean, wanted.std), "given"
    if wanted == "none":
        return Normalise((0.0,) * channels, (1.0,) * channels), "none: values stay in [0, 1]"
    if wanted == "imagenet":
        if channels != len(_IMAGENET[0]):
            raise SourceError(
                "data.normalise: imagenet is for colour images; set data.channels: 3, or normalise: train"
            )
        return Normalise(*_IMAGENET), "ImageNet"
    return None


class Preparation:
    """Decides size, channels and normalisation once, then makes torch data sets out of parts.

    Parameters
    ----------
    spec : DataSpec
        The specification.
    family : Family
        The data set.
    train : Pixels or Files
        The training images, whose statistics may be needed.

    Raises
    ------
    SourceError
        The normalisation asked for does not fit the channels.
    """

    target_shape = None
    """Targets are labels."""

    def __init__(self, spec: DataSpec, family: Family, train: Pixels | Files) -> None:
        self._flip = family.flips
        own = train.images.shape[1:] if isinstance(train, Pixels) else None
        self._crop = None if spec.crop == "none" else spec.crop or USUAL_CROP
        self._channels: int = spec.channels or (own[2] if own else 3)
        side = spec.image_size or family.image_size
        if side is not None:
            self._size = (side, side)
        else:
            assert own is not None
            self._size = (own[0], own[1])
        self._normalise, source = self._normalisation(spec, train)
        self.input_shape = (self._channels, *self._size)
        self.description = {
            "formula": "(pixel / 255 - mean) / std",
            "mean": list(self._normalise.mean),
            "std": list(self._normalise.std),
            "statistics": source,
            "resize": "bilinear, antialiased"
            if own or self._crop is None
            else f"shorter side to image_size / {self._crop:g}, bilinear, antialiased, then centre crop",
            "colour": _colour(self._channels, None if own is None else own[2]),
        }

    def __call__(self, part: Part, *, augment: bool = False) -> Dataset[tuple[Tensor, int]]:
        """Make a torch data set of a part."""
        channels, normalise = self._channels, self._normalise
        if isinstance(part, Pixels):
            shift = ShiftAndFlip(pixels=max(1, self._size[0] // 8), flip=self._flip) if augment else None
            return MemoryImages(part, channels=channels, size=self._size, normalise=normalise, augment=shift)
        assert isinstance(part, Files), "the parts of a data set are of one kind"
        side = self._size[0]
        return FileImages(
            part,
            channels=channels,
            size=side,
            normalise=normalise,
            crop=self._crop,
            augment=augment,
            flip=self._flip,
        )

    def _normalisation(self, spec: DataSpec, train: Pixels | Files) -> tuple[Normalise, str]:
        wanted = spec.normalise
        if wanted is None:
            wanted = "imagenet" if isinstance(train, Files) and self._channels == 3 else "train"
        if (given := given_normalisation(wanted, self._channels)) is not None:
            return given
        if isinstance(train, Pixels):
            return pixel_statistics(train, self._channels), "all training images, at their own size"
        return self._from_files(train, spec.seed)

    def _from_files(self, train: Files, seed: int) -> tuple[Normalise, str]:
        neutral = Normalise((0.0,) * self._channels, (1.0,) * self._channels)
        images = FileImages(train, channels=self._channels, size=self._size[0], normalise=neutral, crop=self._crop)
        n = min(len(images), _MAX_STATISTICS_IMAGES)
        chosen, _ = stratified(train.labels, n, seed=seed, draw=Draw.STATISTICS)
        return file_statistics(images, chosen.tolist()), f"{n} of {len(images)} training images, at their final size"


def _colour(channels: int, own: int | None) -> str:
    """Describe the colour conversion; `own` is the number of channels of images in memory."""
    if own is None:
        return "read as colour, grey repeated" if channels == 3 else "read as grey"
    if own == channels:
        return "grey" if channels == 1 else "colour"
    return "grey repeated to 3 channels" if channels == 3 else "colour to grey, by luminance"
