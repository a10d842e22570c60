"""Base class of data sets: where to find one, what is missing there, and how to read it. Imports no torch."""

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
"""What a network predicts: the class of an image, or the original of a degraded one."""


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
    """Image files of any size, decoded on access.

    Parameters
    ----------
    folder : Path
        Folder that the paths are relative to.
    paths : tuple of str
        One for each image, with ``/``.
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
        """Select the images at `indices`."""
        return Files(folder=self.folder, paths=tuple(self.paths[i] for i in indices), labels=self.labels[indices])


@dataclass(frozen=True, kw_only=True)
class Photographs:
    """Whole photographs in memory, each of its own size, without classes.

    Parameters
    ----------
    names : tuple of str
        One for each photograph.
    images : tuple of ndarray of shape (height, width, 3), dtype uint8
        Red, green, blue.
    """

    names: tuple[str, ...]
    images: tuple[npt.NDArray[np.uint8], ...]

    @property
    def labels(self) -> Labels:
        """All zero: a split takes whole photographs, without strata."""
        return np.zeros(len(self.names), dtype=np.int64)

    def sha256(self) -> str:
        """Hash names, shapes and pixels."""
        digest = hashlib.sha256("\n".join(self.names).encode())
        for image in self.images:
            digest.update(repr(image.shape).encode())
            digest.update(np.ascontiguousarray(image).data)
        return digest.hexdigest()

    def take(self, indices: Labels) -> Photographs:
        """Select the photographs at `indices`."""
        return Photographs(names=tuple(self.names[i] for i in indices), images=tuple(self.images[i] for i in indices))


Part: TypeAlias = Pixels | Files | Photographs


@dataclass(frozen=True, kw_only=True)
class Raw:
    """A data set in its official parts.

    Parameters
    ----------
    classes : tuple of str
        Class names, indexed by label. Empty if images have no class.
    train : Pixels, Files or Photographs
        Images that may be trained on.
    validation, test : Pixels, Files, Photographs or None
        Official parts; None if there is none.
    test_fraction : float
        Share of the images that is tested on if there is no official test part.
    """

    classes: tuple[str, ...]
    train: Part
    validation: Part | None = None
    test: Part | None = None
    test_fraction: float = 0.2


class Family(ABC):
    """One data set, or one folder layout. To add one, write a subclass in a file and add a line to `DATA_SETS`.

    Parameters
    ----------
    name : str
        As in the specification, for messages.
    argument : str
        What follows the colon in the name; empty if there is none.
    """

    modules: ClassVar[tuple[str, ...]] = ("torch",)
    """Modules that must be installed."""
    embedded: ClassVar[bool] = False
    """True if it comes with a library and has no place on disk of its own."""
    installed: ClassVar[tuple[Path, ...]] = ()
    """Where a system package puts it."""
    argument_form: ClassVar[str] = ""
    """What the name needs after a colon, in one word such as PATH; empty if it takes nothing."""
    task: ClassVar[Task] = "classification"
    """What a network predicts."""
    flips: ClassVar[bool] = True
    """True if a mirrored image keeps its class."""
    image_size: ClassVar[int | None] = None
    """Default side of the images; None keeps their own size."""
    wanted: ClassVar[str]
    """What is looked for in a place, in words."""
    hint: ClassVar[str]
    """What to do if it is missing."""

    def __init__(self, name: str, argument: str) -> None:
        self.name = name
        self.argument = argument

    def places(self, root: Path) -> tuple[Path, ...]:
        """List where the data set may be under a data root."""
        return (root,)

    def lacks(self, place: Path) -> str | None:
        """Return what is missing at `place`, or None if nothing is. Cheap: no file is opened."""
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
        """Find where the data set is; None for one that comes with a library.

        Parameters
        ----------
        roots : tuple of Path
            Data roots to look under, in this order.
        also_installed : bool
            Also look where a system package puts it.

        Raises
        ------
        SourceError
            It was not found; the message says what was looked for and where, and what to do.
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
