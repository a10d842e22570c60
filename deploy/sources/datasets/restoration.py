"""torch data sets for image restoration: patches of photographs as targets, degraded patches as inputs."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from deploy.errors import SourceError
from deploy.sources.datasets.family import Photographs, Pixels
from deploy.sources.datasets.images import Normalise, pixel_statistics
from deploy.sources.datasets.photographs import ToRestore
from deploy.sources.datasets.preparation import given_normalisation

if TYPE_CHECKING:
    from deploy.sources.datasets.data_spec import DataSpec
    from deploy.sources.datasets.family import Family, Part

__all__ = ["PhotographPieces", "Pieces", "RestorationPreparation"]


@dataclass(frozen=True, slots=True)
class Pieces:
    """How patches of photographs become inputs and targets.

    Parameters
    ----------
    channels : {1, 3}
        Grey is the luminance.
    side : int
        Side of the inputs; that of the targets is ``scale * side``.
    scale : int
        1, or the factor by which PIL's bicubic filter downscales the input.
    sigma : float
        Standard deviation of white Gaussian noise on the input, for values in [0, 1].
    normalise : Normalise
        Applied to the input alone, last; targets stay in [0, 1].
    """

    channels: int
    side: int
    scale: int
    sigma: float
    normalise: Normalise


class PhotographPieces(Dataset[tuple[Tensor, Tensor]]):
    """Pairs of a degraded patch and the patch that it was made from.

    Plain: adjacent tiles that do not overlap, from the upper left corner; the remainder at the right and bottom is
    left out. Their noise is drawn from the seed, the photograph's name and the tile: it is the same each time.
    Augmented: each item is a patch of the same photograph as its tile, cut out anywhere and mirrored in each direction
    with probability 1/2; these numbers and the noise come from torch's global generator, anew each time.

    Parameters
    ----------
    part : Photographs
        The photographs.
    pieces : Pieces
        How patches become inputs and targets.
    seed : int
        Seed of the noise of plain patches.
    augment : bool
        See above.

    Raises
    ------
    SourceError
        A photograph is smaller than a target.
    """

    def __init__(self, part: Photographs, pieces: Pieces, *, seed: int, augment: bool = False) -> None:
        self._pieces = pieces
        self._seed = seed
        self._augment = augment
        self._names = part.names
        self._images = [_in_channels(image, pieces.channels) for image in part.images]
        side = pieces.side * pieces.scale
        for name, image in zip(part.names, self._images, strict=True):
            if min(image.shape[1:]) < side:
                raise SourceError(
                    f"data.image_size {pieces.side} needs photographs of {side} x {side} at least; {name} has "
                    f"{image.shape[1]} x {image.shape[2]}"
                )
        self._tiles = [
            (photograph, top, left)
            for photograph, image in enumerate(self._images)
            for top in range(0, image.shape[1] - side + 1, side)
            for left in range(0, image.shape[2] - side + 1, side)
        ]

    def __len__(self) -> int:
        return len(self._tiles)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        images, targets = self.batch([index])
        return images[0], targets[0]

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
        """Return many examples at once; torch's DataLoader calls this by itself."""
        images, targets = self.batch(indices)
        return list(zip(images.unbind(), targets.unbind(), strict=True))

    def batch(self, indices: Sequence[int] | Tensor) -> tuple[Tensor, Tensor]:
        """Return many examples at once, already collated.

        Returns
        -------
        images : Tensor of shape (n, channels, side, side), float32
        targets : Tensor of shape (n, channels, scale * side, scale * side), float32 in [0, 1]
        """
        pieces = self._pieces
        chosen = torch.as_tensor(indices, dtype=torch.int64).tolist()
        cut = self._anywhere(chosen) if self._augment else [self._cut(*self._tiles[index]) for index in chosen]
        targets = torch.stack(cut)
        images = targets if pieces.scale == 1 else torch.stack([_smaller(one, pieces.side) for one in cut])
        targets, images = _in_unit_range(targets), _in_unit_range(images)
        if pieces.sigma:
            drawn = torch.randn(images.shape) if self._augment else torch.stack([self._noise(i) for i in chosen])
            images = images + pieces.sigma * drawn
        return pieces.normalise(images), targets

    def _cut(self, photograph: int, top: int, left: int) -> Tensor:
        side = self._pieces.side * self._pieces.scale
        return self._images[photograph][:, top : top + side, left : left + side]

    def _anywhere(self, chosen: list[int]) -> list[Tensor]:
        side = self._pieces.side * self._pieces.scale
        cut = []
        for index, (down, across, upturned, mirrored) in zip(chosen, torch.rand(len(chosen), 4).tolist(), strict=True):
            photograph = self._tiles[index][0]
            _, height, width = self._images[photograph].shape
            piece = self._cut(photograph, int(down * (height - side + 1)), int(across * (width - side + 1)))
            axes = [axis for axis, turned in ((1, upturned < 0.5), (2, mirrored < 0.5)) if turned]
            cut.append(piece.flip(axes))
        return cut

    def _noise(self, index: int) -> Tensor:
        photograph, top, left = self._tiles[index]
        named = f"{self._seed} {self._names[photograph]} {top} {left}"
        generator = torch.Generator().manual_seed(zlib.crc32(named.encode()))
        return torch.randn(self._pieces.channels, self._pieces.side, self._pieces.side, generator=generator)


class RestorationPreparation:
    """Decides size, channels and normalisation once, then makes torch data sets out of parts.

    Parameters
    ----------
    spec : DataSpec
        The specification.
    family : ToRestore
        How photographs are degraded.
    train : Photographs
        The training photographs, whose statistics may be needed.

    Raises
    ------
    SourceError
        The normalisation asked for does not fit the channels.
    """

    def __init__(self, spec: DataSpec, family: Family, train: Photographs) -> None:
        assert isinstance(family, ToRestore), "photographs are read by it"
        channels, side = spec.channels or 3, spec.image_size or family.side
        normalise, source = _normalisation(spec, train, channels)
        self._seed = spec.seed
        self._pieces = Pieces(channels, side, family.scale, family.sigma, normalise)
        target = side * family.scale
        self.input_shape = (channels, side, side)
        self.target_shape = (channels, target, target)
        self.description = {
            "task": family.task,
            "target": f"a piece of {target} x {target} pixels of a photograph, pixel / 255",
            "input": _worse(family),
            "pieces": "training: cut out anywhere, mirrored in both directions; otherwise tiles without overlap",
            "noise": "training: anew each time; otherwise by the seed" if family.sigma else "none",
            "division": "by photograph: pieces of one photograph are in one part only",
            "formula": "(input - mean) / std",
            "mean": list(normalise.mean),
            "std": list(normalise.std),
            "statistics": source,
        }

    def __call__(self, part: Part, *, augment: bool = False) -> PhotographPieces:
        """Make a torch data set of a part."""
        assert isinstance(part, Photographs), "the parts of a data set are of one kind"
        return PhotographPieces(part, self._pieces, seed=self._seed, augment=augment)


def _normalisation(spec: DataSpec, train: Photographs, channels: int) -> tuple[Normalise, str]:
    if spec.normalise is None:
        return Normalise((0.0,) * channels, (1.0,) * channels), "none: values stay in [0, 1]"
    if (given := given_normalisation(spec.normalise, channels)) is not None:
        return given
    pixels = np.concatenate([image.reshape(-1, 3) for image in train.images])[None, :, None, :]
    one = Pixels(images=pixels, labels=np.zeros(1, dtype=np.int64))
    return pixel_statistics(one, channels), "all pixels of the training photographs"


def _worse(family: ToRestore) -> str:
    if family.scale > 1:
        return f"the target made {family.scale} times smaller by PIL's bicubic filter, in 8 bits"
    return f"the target with white Gaussian noise of standard deviation {255 * family.sigma:g} / 255, not clipped"


def _in_channels(image: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], channels: int) -> Tensor:
    """Return bytes of shape (channels, height, width)."""
    from PIL import Image

    grey = channels == 1
    pixels = np.array(Image.fromarray(image).convert("L"))[..., None] if grey else np.array(image)
    return torch.from_numpy(pixels).permute(2, 0, 1)


def _smaller(piece: Tensor, side: int) -> Tensor:
    """Downscale bytes of shape (channels, height, width) to a square."""
    from PIL import Image

    grey = piece.shape[0] == 1
    image = Image.fromarray(piece[0].numpy() if grey else piece.permute(1, 2, 0).contiguous().numpy())
    pixels = np.array(image.resize((side, side), Image.Resampling.BICUBIC))
    return torch.from_numpy(pixels[..., None] if grey else pixels).permute(2, 0, 1)


def _in_unit_range(pixels: Tensor) -> Tensor:
    return pixels.to(torch.float32).div_(255)
