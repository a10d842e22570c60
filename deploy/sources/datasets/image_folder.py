"""Folders of images: one folder for each class, split as ImageNet is or not at all; or the layout of CUB-200-2011."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from deploy.errors import SourceError
from deploy.sources.boundary import cause
from deploy.sources.datasets.family import Family, Files, Part, Raw

__all__ = ["ImageFolder"]

_CUB_FILES = ("images.txt", "image_class_labels.txt", "train_test_split.txt", "classes.txt", "images")
_TRAIN, _VALIDATION, _TEST = "train", "val", "test"
_VALIDATIONS = (_VALIDATION, "valid", "validation")
_SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""Those that torchvision's ImageFolder takes."""
_NO_CLASSES = ("__MACOSX",)
"""Folders that archives leave beside the classes; those whose names begin with a dot are not classes either."""


class ImageFolder(Family):
    """The user's own
        ``CLASS/*.jpg``: tested on a fifth of the images, drawn by the seed.
    ImageNet's layout
        ``train/CLASS/*.jpg`` and ``val/CLASS/*.jpg``. ``val`` is the test part, and validation images are taken from
        ``train``. If there is also ``test/CLASS/*.jpg``, test and validation are those two folders; without ``val``,
        validation images are taken from ``train``. ``val`` may be called ``valid`` or ``validation``.
    CUB-200-2011's layout
        ``images.txt``, ``image_class_labels.txt``, ``train_test_split.txt``, ``classes.txt``, ``images/``.
    """  # noqa: D205

    modules = ("torch", "torchvision")
    argument_form = "PATH"
    image_size = 224
    wanted = (
        "a folder for each class, train/ and val/ with such folders, or images.txt and its companions (CUB-200-2011's)"
    )
    hint = "write imagefolder:PATH with the folder of the data set"

    def places(self, root: Path) -> tuple[Path, ...]:
        """Return the path given in the name; a relative one is under the data root."""
        return (root / Path(self.argument).expanduser(),)

    def lacks(self, place: Path) -> str | None:
        """Return why `place` is not one of the layouts."""
        if not place.is_dir():
            return "no such folder"
        if (place / "images.txt").is_file():
            absent = next((name for name in _CUB_FILES if not (place / name).exists()), None)
            return None if absent is None else f"no {absent}"
        if not _folders(place):
            return "no folder in it: images must be in one folder for each class"
        if (place / _TRAIN).is_dir() and not _folders(place / _validation(place)) and not _folders(place / _TEST):
            return f"no {_VALIDATION}/ or {_TEST}/ with a folder for each class beside {_TRAIN}/"
        return None

    def read(self, place: Path | None) -> Raw:
        """List the images."""
        assert place is not None
        if (place / "images.txt").is_file():
            return self._read_cub(place)
        raw = self._read_divided(place) if (place / _TRAIN).is_dir() else self._read_undivided(place)
        if len(raw.classes) < 2:
            raise SourceError(
                f"data set {self.name!r} has only one class, {raw.classes[0]!r}: put the images of each class into a "
                "folder of its own"
            )
        return raw

    def _read_undivided(self, place: Path) -> Raw:
        classes, train = self._scan(place, "")
        return Raw(classes=classes, train=train)

    def _read_divided(self, place: Path) -> Raw:
        classes, train = self._scan(place, _TRAIN)
        others: dict[str, Part] = {}
        # ImageNet's own test folder is flat: its labels are secret.
        for part, name in ((_VALIDATION, _validation(place)), (_TEST, _TEST)):
            if not _folders(place / name):
                continue
            found, others[part] = self._scan(place, name)
            if found != classes:
                stranger = sorted(set(found) ^ set(classes))[0]
                raise SourceError(f"data set {self.name!r}: class {stranger!r} is in only one of {_TRAIN}/ and {name}/")
        if _TEST in others:
            return Raw(classes=classes, train=train, validation=others.get(_VALIDATION), test=others[_TEST])
        return Raw(classes=classes, train=train, test=others[_VALIDATION])

    def _scan(self, place: Path, name: str) -> tuple[tuple[str, ...], Files]:
        """List the images of each class, in the order of torchvision's ImageFolder."""
        classes = tuple(sorted(folder.name for folder in _folders(place / name)))
        paths: list[str] = []
        labels: list[int] = []
        for label, class_name in enumerate(classes):
            images = _images(place / name / class_name)
            if not images:
                raise SourceError(
                    f"data set {self.name!r}: {place / name / class_name} holds no images ({', '.join(_SUFFIXES)}): "
                    "remove it, or put the images of that class into it"
                )
            paths += (path.relative_to(place).as_posix() for path in images)
            labels += [label] * len(images)
        return classes, Files(folder=place, paths=tuple(paths), labels=np.array(labels, dtype=np.int64))

    def _read_cub(self, place: Path) -> Raw:
        images = self._table(place / "images.txt")
        labels = self._table(place / "image_class_labels.txt")
        training = self._table(place / "train_test_split.txt")
        classes = self._table(place / "classes.txt")
        positions = {number: position for position, number in enumerate(classes)}
        rows: dict[str, list[tuple[str, int]]] = {"0": [], "1": []}
        for number, path in images.items():
            label, part = labels.get(number, ""), training.get(number, "")
            if label not in positions or part not in rows:
                raise SourceError(f"data set {self.name!r}: image {number} ({path}) lacks a class or a part")
            if not (place / "images" / path).is_file():
                raise SourceError(f"data set {self.name!r} lacks image {place / 'images' / path}")
            rows[part].append((f"images/{path}", positions[label]))
        if not all(rows.values()):
            raise SourceError(f"data set {self.name!r}: {place / 'train_test_split.txt'} leaves one part empty")
        parts = {
            part: Files(
                folder=place,
                paths=tuple(path for path, _ in listed),
                labels=np.array([label for _, label in listed], dtype=np.int64),
            )
            for part, listed in rows.items()
        }
        return Raw(classes=tuple(classes.values()), train=parts["1"], test=parts["0"])

    def _table(self, path: Path) -> dict[str, str]:
        """Read a file of lines with a number and a value each."""
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise SourceError(f"data file {path} cannot be read ({cause(error)})") from error
        table = {}
        for number, line in enumerate(lines, start=1):
            key, space, value = line.strip().partition(" ")
            if not space:
                raise SourceError(f"data file {path}, line {number}: wants a number and a value, got {line!r}")
            table[key] = value
        return table


def _folders(place: Path) -> list[Path]:
    if not place.is_dir():
        return []
    return [entry for entry in place.iterdir() if entry.is_dir() and not _hidden(entry.name)]


def _images(folder: Path) -> list[Path]:
    return [
        Path(where, name)
        for where, _, names in sorted(os.walk(folder, followlinks=True))
        if not any(map(_hidden, Path(where).relative_to(folder).parts))
        for name in sorted(names)
        if name.lower().endswith(_SUFFIXES) and not _hidden(name)
    ]


def _hidden(name: str) -> bool:
    return name.startswith(".") or name in _NO_CLASSES


def _validation(place: Path) -> str:
    """Return the name of the folder of validation images."""
    return next((name for name in _VALIDATIONS if _folders(place / name)), _VALIDATION)
