"""torch data sets of images: pixels in memory, processed a batch at a time, or files decoded one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor
from torch.utils.data import Dataset

from deploy.errors import SourceError
from deploy.sources.boundary import cause
from deploy.sources.datasets.family import Files, Pixels

if TYPE_CHECKING:
    from PIL import Image

__all__ = [
    "USUAL_CROP",
    "FileImages",
    "MemoryImages",
    "Normalise",
    "ShiftAndFlip",
    "file_statistics",
    "pixel_statistics",
]

USUAL_CROP = 0.875
"""Share of the shorter side that torchvision's reference evaluation keeps: 224 pixels out of 256."""
_HIGH_BYTES = [value >> 8 for value in range(1 << 16)]


@dataclass(frozen=True, slots=True)
class Normalise:
    """Normalise pixels to zero mean and unit variance: ``(pixel / 255 - mean) / std``, channel by channel.

    Parameters
    ----------
    mean, std : tuple of float
        One for each channel, of pixels scaled to [0, 1]; std above 0.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, images: Tensor) -> Tensor:
        """Normalise images of shape (..., channels, height, width) in [0, 1]."""
        mean = torch.tensor(self.mean, dtype=torch.float32)[:, None, None]
        std = torch.tensor(self.std, dtype=torch.float32)[:, None, None]
        return (images - mean) / std


@dataclass(frozen=True, slots=True)
class ShiftAndFlip:
    """Random crop after padding with black, and random mirroring; drawn per image from torch's global generator.

    Parameters
    ----------
    pixels : int
        Padding on each side; the crop has the image's own size.
    flip : bool
        Mirror left and right with probability 1/2.
    """

    pixels: int
    flip: bool

    def __call__(self, images: Tensor) -> Tensor:
        """Transform a batch of shape (n, channels, height, width), float32, at once; black is 0."""
        n, n_channels, height, width = images.shape
        top, left = torch.randint(2 * self.pixels + 1, (2, n)).numpy()
        mirrored = (torch.rand(n) < 0.5).numpy() if self.flip else np.zeros(n, dtype=bool)
        # In NumPy: for batches this small, waking torch's threads costs more than the copying.
        framed = np.zeros((n, n_channels, height + 2 * self.pixels, width + 2 * self.pixels), dtype=np.float32)
        framed[:, :, self.pixels : self.pixels + height, self.pixels : self.pixels + width] = images.numpy()
        crops = sliding_window_view(framed, (height, width), axis=(2, 3))[np.arange(n), :, top, left]
        crops[mirrored] = crops[mirrored, :, :, ::-1]
        return torch.from_numpy(crops)


class MemoryImages(Dataset[tuple[Tensor, int]]):
    """Images in memory as bytes; resized, augmented and normalised on access, a whole batch at once.

    Parameters
    ----------
    part : Pixels
        The images.
    channels : {1, 3}
        Grey is repeated three times; colour is converted to grey by its luminance.
    size : tuple of int
        (height, width) to resize to, bilinear with antialiasing.
    normalise : Normalise
        Applied last.
    augment : callable or None
        Maps a batch of shape (n, channels, height, width) in [0, 1] to another one.
    """

    def __init__(
        self,
        part: Pixels,
        *,
        channels: int,
        size: tuple[int, int],
        normalise: Normalise,
        augment: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self._images = _tensor(part)
        self._labels = torch.tensor(part.labels)
        self._channels = channels
        self._size = size
        self._normalise = normalise
        self._augment = augment

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        images, labels = self.batch([index])
        return images[0], int(labels[0])

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Tensor, int]]:
        """Return many examples at once; torch's DataLoader calls this by itself."""
        images, labels = self.batch(indices)
        return list(zip(images.unbind(), labels.tolist(), strict=True))

    def batch(self, indices: Sequence[int] | Tensor) -> tuple[Tensor, Tensor]:
        """Return many examples at once, already collated.

        Returns
        -------
        images : Tensor of shape (n, channels, height, width), float32
        labels : Tensor of shape (n,), int64
        """
        chosen = torch.as_tensor(indices, dtype=torch.int64)
        # The result of index_select is laid out channel by channel, whatever the memory order of its input.
        images = self._images.index_select(0, chosen).to(torch.float32).div_(255)
        if images.shape[1] != self._channels:
            images = images.expand(-1, 3, -1, -1) if self._channels == 3 else _luminance(images)
        if images.shape[2:] != self._size:
            images = F.interpolate(images, self._size, mode="bilinear", antialias=True)
        if self._augment is not None:
            images = self._augment(images)
        return self._normalise(images), self._labels[chosen]


class FileImages(Dataset[tuple[Tensor, int]]):
    """Image files, decoded on access and resized to a square of `size` pixels.

    Parameters
    ----------
    part : Files
        The files.
    channels : {1, 3}
        Grey or colour.
    size : int
        Side of the square. Plain images: see `crop`. Augmented ones: a random area (8 % to 100 %, aspect 3/4 to 4/3) is
        resized to the square and mirrored with probability 1/2, drawn from torch's global generator.
    normalise : Normalise
        Applied last.
    crop : float or None, default=0.875
        The shorter side is resized to ``size / crop``, then the centre is cut out; None: the whole image is resized to
        the square, whatever its shape.
    augment, flip : bool
        Whether to augment, and whether mirroring is part of it.
    """

    def __init__(
        self,
        part: Files,
        *,
        channels: int,
        size: int,
        normalise: Normalise,
        crop: float | None = USUAL_CROP,
        augment: bool = False,
        flip: bool = True,
    ) -> None:
        from torchvision.transforms import v2

        steps: list[Callable[..., object]]
        if augment:
            steps = [v2.RandomResizedCrop(size, antialias=True)]
            if flip:
                steps.append(v2.RandomHorizontalFlip())
        elif crop is None:
            steps = [v2.Resize((size, size), antialias=True)]
        else:
            steps = [v2.Resize(round(size / crop), antialias=True), v2.CenterCrop(size)]
        self._transform = v2.Compose([*steps, v2.PILToTensor()])
        self._part = part
        self._mode = "RGB" if channels == 3 else "L"
        self._normalise = normalise

    def __len__(self) -> int:
        return len(self._part.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self._normalise(self.pixels(index).to(torch.float32).div_(255)), int(self._part.labels[index])

    def pixels(self, index: int) -> Tensor:
        """Decode one image to bytes of shape (channels, size, size), before normalisation.

        Raises
        ------
        SourceError
            The file is missing or damaged.
        """
        from PIL import Image

        path = self._part.folder / self._part.paths[index]
        try:
            with Image.open(path) as image:
                converted = _in_bytes(image).convert(self._mode)
        except SourceError as error:
            raise SourceError(f"image {path} {error}") from error
        except Exception as error:  # anything that PIL, its plugins or patches of it (ultralytics) raise
            raise SourceError(f"image {path} cannot be read ({cause(error)})") from error
        pixels: Tensor = self._transform(converted)
        return pixels


def _in_bytes(image: Image.Image) -> Image.Image:
    """Take the high byte of 16-bit pixels; PIL itself would turn every value above 255 white."""
    if image.mode.startswith("I;16"):
        return image.convert("I").point(_HIGH_BYTES, "L")
    if image.mode in ("I", "F"):
        raise SourceError(f"has pixels of 32 bits (PIL's mode {image.mode}), of no known range: save it with 8 or 16")
    return image


def pixel_statistics(part: Pixels, channels: int) -> Normalise:
    """Compute mean and standard deviation of each channel over all pixels, exactly, at the images' own size."""
    values = np.arange(256) / 255
    means, variances = [], []
    for channel in range(part.images.shape[3]):
        share = np.bincount(part.images[..., channel].ravel(), minlength=256) / part.images[..., channel].size
        mean = float(share @ values)
        means.append(mean)
        variances.append(float(share @ (values - mean) ** 2))
    if len(means) == 1 and channels == 3:
        means, variances = means * 3, variances * 3
    elif len(means) == 3 and channels == 1:
        images = _tensor(part)
        sums = torch.zeros(2, dtype=torch.float64)
        for chunk in torch.split(images, 1024):
            grey = _luminance(chunk.to(torch.float32).div_(255)).to(torch.float64)
            sums += torch.stack([grey.sum(), (grey * grey).sum()])
        mean, square = (sums / (images.shape[0] * images.shape[2] * images.shape[3])).tolist()
        means, variances = [mean], [square - mean**2]
    return _normalise(means, variances)


def file_statistics(images: FileImages, indices: Sequence[int]) -> Normalise:
    """Compute mean and standard deviation of each channel over the images at `indices`, at their final size."""
    sums = torch.zeros(2, 1)
    for index in indices:
        pixels = images.pixels(index).to(torch.float64).div_(255).flatten(1)
        sums = sums + torch.stack([pixels.mean(1), (pixels * pixels).mean(1)])
    mean, square = sums / len(indices)
    return _normalise(mean.tolist(), (square - mean**2).tolist())


def _tensor(part: Pixels) -> Tensor:
    """View the pixels as a tensor of shape (n_images, channels, height, width); read-only ones are copied."""
    images = part.images if part.images.flags.writeable else part.images.copy()
    return torch.from_numpy(images).permute(0, 3, 1, 2)


def _normalise(means: Sequence[float], variances: Sequence[float]) -> Normalise:
    if min(variances) <= 0:
        raise SourceError("a channel of the training images is constant: there is nothing to normalise by")
    return Normalise(tuple(means), tuple(variance**0.5 for variance in variances))


def _luminance(images: Tensor) -> Tensor:
    """Convert to grey with the weights of ITU-R 601."""
    weights = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    return (images * weights).sum(1, keepdim=True)
