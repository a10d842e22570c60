"""What each data set must be able to say: where it lies, what is missing there, and what is in it. Imports no torch."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from deploy.errors import SourceError

__all__ = ["Family", "Files", "Part", "Photographs", "Pixels", "Raw", "Task"]

Labels: TypeAlias = npt.NDArray[np.int64]
Task: TypeAlias = Literal["classification", "restoration"]
"""What is asked about an image: its class, or the image that it was made worse from."""


@dataclass(frozen=True, kw_only=True)
class Pixels:
    """Images held in memory.

    Parameters
    ----------
    images : ndarray of shape (n_images, height, width, channels), dtype uint8
        Channels are 1 (grey) or 3 (red, green, blue).
    labels : ndarray of shape (n_images,), dtype int64
        Class of each image.
    """

    images: npt.NDArray[np.uint8]
    labels: Labels

    def sha256(self) -> str:
        """Hash shape, pixels and labels."""
        digest = hashlib.sha256(repr(self.images.shape).encode())
        digest.update(np.ascontiguousarray(self.images).data)
        digest.update(self.labels.astype("<i8").tobytes())
        return digest.hexdigest()

    def take(self, indices: Labels) -> Pixels:
        """Copy the images at `indices`."""
        return Pixels(images=self.images[indices], labels=self.labels[indices])


@dataclass(frozen=True, kw_only=True)
class Files:
    """Images in files of any size, decoded when they are asked for.

    Parameters
    ----------
    folder : Path
        What the paths are relative to.
    paths : tuple of str
        One a image, with ``/``.
    labels : ndarray of shape (n_images,), dtype int64
        Class of each image.
    """

    folder: Path
    paths: tuple[str, ...]
    labels: Labels

    def sha256(self) -> str:
        """Hash relative paths and labels; the content of the files is not read."""
        digest = hashlib.sha256("\n".join(self.paths).encode("utf-8", "surrogateescape"))  # names are bytes
        digest.update(self.labels.astype("<i8").tobytes())
        return digest.hexdigest()

    def take(self, indices: Labels) -> Files:
        """Choose the images at `indices`."""
        return Files(folder=self.folder, paths=tuple(self.paths[i] for i in indices), labels=self.labels[indices])


@dataclass(frozen=True, kw_only=True)
class Photographs:
    """Whole photographs in memory, each of its own size; they have no classes.

    Parameters
    ----------
    names : tuple of str
        One each.
    images : tuple of ndarray of shape (height, width, 3), dtype uint8
        Red, green, blue.
    """

    names: tuple[str, ...]
    images: tuple[npt.NDArray[np.uint8], ...]

    @property
    def labels(self) -> Labels:
        """All of one kind: a division takes whole photographs, without strata."""
        return np.zeros(len(self.names), dtype=np.int64)

    def sha256(self) -> str:
        """Hash names, shapes and pixels."""
        digest = hashlib.sha256("\n".join(self.names).encode())
        for image in self.images:
            digest.update(repr(image.shape).encode())
            digest.update(np.ascontiguousarray(image).data)
        return digest.hexdigest()

    def take(self, indices: Labels) -> Photographs:
        """Choose the photographs at `indices`."""
        return Photographs(names=tuple(self.names[i] for i in indices), images=tuple(self.images[i] for i in indices))


Part: TypeAlias = Pixels | Files | Photographs


@dataclass(frozen=True, kw_only=True)
class Raw:
    """A data set as its authors divided it.

    Parameters
    ----------
    classes : tuple of str
        Names; a label is a position in it. Empty where images have no class.
    train : Pixels, Files or Photographs
        What may be trained on.
    validation, test : Pixels, Files, Photographs or None
        Official ones; None where there is none.
    test_fraction : float
        Share of the images that is tested on where there are no official ones.
    """

    classes: tuple[str, ...]
    train: Part
    validation: Part | None = None
    test: Part | None = None
    test_fraction: float = 0.2


class Family(ABC):
    """One data set, or one layout of folders. A new one is a file with such a class and a line of `DATA_SETS`.

    Parameters
    ----------
    name : str
        As in the specification, for messages.
    argument : str
        What followed the colon in the name, empty without one.
    """

    modules: ClassVar[tuple[str, ...]] = ("torch",)
    """What must be installed."""
    embedded: ClassVar[bool] = False
    """True when it comes with a library and has no place on disk of its own."""
    installed: ClassVar[tuple[Path, ...]] = ()
    """Where a system package puts it."""
    argument_form: ClassVar[str] = ""
    """What the name needs behind a colon, in one word such as PATH; empty when it takes nothing."""
    task: ClassVar[Task] = "classification"
    """What is asked about an image."""
    flips: ClassVar[bool] = True
    """True when a mirrored image is still of its class."""
    image_size: ClassVar[int | None] = None
    """Side of the images when none is asked for; None keeps their own size."""
    wanted: ClassVar[str]
    """What is looked for in a place, in words."""
    hint: ClassVar[str]
    """What to do when it is missing."""

    def __init__(self, name: str, argument: str) -> None:
        self.name = name
        self.argument = argument

    def places(self, root: Path) -> tuple[Path, ...]:
        """List where the data set may lie under a data root."""
        return (root,)

    def lacks(self, place: Path) -> str | None:
        """Return what is missing at `place`, None when everything needed is there. Cheap: no file is opened."""
        raise NotImplementedError(f"{type(self).__name__} has no place on disk")

    @abstractmethod
    def read(self, place: Path | None) -> Raw:
        """Read the data set.

        Raises
        ------
        SourceError
            A file is damaged; the message names it.
        """

    def find(self, roots: tuple[Path, ...], *, also_installed: bool) -> Path | None:
        """Find where the data set lies; None for one that comes with a library.

        Parameters
        ----------
        roots : tuple of Path
            Data roots to look under, in this order.
        also_installed : bool
            Look where a system package puts it, too.

        Raises
        ------
        SourceError
            It is nowhere: the message says what was looked for where, and what to do.
        """
        if self.embedded:
            return None
        places = [place for root in roots for place in self.places(root)]
        if also_installed:
            places.extend(self.installed)
        for place in places:
            if self.lacks(place) is None:
                return place
        if not places:
            raise SourceError(f"data set {self.name!r}: no data root is given; {self.hint}")
        looked = ", ".join(f"{place} ({self.lacks(place)})" for place in places)
        raise SourceError(f"data set {self.name!r} not found: looked for {self.wanted} in {looked}; {self.hint}")
