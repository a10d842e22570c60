"""Load a data set by name, split into training, validation and test images reproducibly, by a seed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from deploy.errors import SourceError
from deploy.files.validation_errors import suggestion
from deploy.sources.boundary import missing, require
from deploy.sources.datasets.data_spec import ROOT_VARIABLE, DataSpec, Normalisation
from deploy.sources.datasets.division import Division, divide
from deploy.sources.datasets.family import Family, Files, Photographs, Pixels, Raw, Task
from deploy.sources.datasets.split import indices_sha256
from deploy.sources.metric import Metric
from deploy.sources.registry import DATA_SETS, data_set_names
from prune_deploy import how_to_install

if TYPE_CHECKING:
    from torch import Tensor
    from torch.utils.data import Dataset

    Example = tuple[Tensor, int | Tensor]

__all__ = [
    "ROOT_VARIABLE",
    "DataAvailability",
    "DataSource",
    "DataSpec",
    "Normalisation",
    "data_availability",
    "load",
    "metric_of",
    "read_raw",
]

_METRICS: dict[Task, Metric] = {"classification": "accuracy", "restoration": "psnr"}
_HASHED = {Pixels: "pixels and labels", Files: "paths and labels", Photographs: "names and pixels"}


@dataclass(frozen=True, kw_only=True)
class DataSource:
    """A data set ready for a network: select on `validation`, report on `test`.

    Parameters
    ----------
    name : str
        As in the specification.
    classes : tuple of str
        Class names, indexed by label. Empty for restoration.
    input_shape : tuple of int
        (channels, height, width) of every image.
    train, train_plain, validation, test : Dataset of (Tensor, int or Tensor)
        float32 images of shape `input_shape`, normalised, each with its target: the label, or for restoration the
        float32 image of shape `target_shape`, in [0, 1], that it was made from. `train` is augmented, with torch's
        global generator; `train_plain` holds the same images, in the same order, without augmentation. Data sets in
        memory have ``__getitems__``, which torch's DataLoader calls, and ``batch(indices) -> (images, targets)``.
    indices : Mapping of str to ndarray of int64
        For "train", "validation" and "test": positions in the official part that provenance names, in order. For
        images to restore: positions of whole photographs.
    provenance : Mapping
        JSON record: specification, hashes of the data and of the split, sizes, normalisation and preprocessing.
        It contains no absolute path other than those of the specification.
    task : {"classification", "restoration"}
        What the network predicts.
    target_shape : tuple of int, optional
        (channels, height, width) of every target; None if targets are labels.
    """

    name: str
    classes: tuple[str, ...]
    input_shape: tuple[int, int, int]
    train: Dataset[Example]
    train_plain: Dataset[Example]
    validation: Dataset[Example]
    test: Dataset[Example]
    indices: Mapping[str, npt.NDArray[np.int64]] = field(repr=False)
    provenance: Mapping[str, Any] = field(repr=False)
    task: Task = "classification"
    target_shape: tuple[int, int, int] | None = None

    @property
    def n_classes(self) -> int | None:
        """Number of classes; None if images have none."""
        return len(self.classes) or None

    @property
    def metric(self) -> Metric:
        """Quality metric of networks for this data."""
        return _METRICS[self.task]


@dataclass(frozen=True, slots=True, kw_only=True)
class DataAvailability:
    """Whether a data set can be read on this machine.

    Parameters
    ----------
    name : str
        Name of the data set.
    ok : bool
        Whether it was found; its files were not opened.
    where : str
        Where it is, or what it comes with; empty if it was not found.
    reason, hint : str
        Why it was not found, and what to do; empty if it was.
    """

    name: str
    ok: bool
    where: str = ""
    reason: str = ""
    hint: str = ""


def load(spec: DataSpec) -> DataSource:
    """Read a data set, split and prepare it.

    Raises
    ------
    SourceError
        Unknown name, data that is missing or damaged, or too few images for the requested split.
    ExtraMissingError
        A library that reads it is not installed.
    """
    raw = read_raw(spec)
    return _prepared(spec, _family(spec.name), raw, divide(raw, spec))


def read_raw(spec: DataSpec) -> Raw:
    """Read a data set in its official parts.

    Raises
    ------
    SourceError, ExtraMissingError
        As `load` does.
    """
    family = _family(spec.name)
    require(f"data set {spec.name}", *family.modules)
    roots, also_installed = _roots(spec.root, family)
    return family.read(family.find(roots, also_installed=also_installed))


def metric_of(spec: DataSpec) -> Metric:
    """Return the quality metric of networks for this data. Cheap: nothing is read.

    Raises
    ------
    SourceError
        Unknown name.
    """
    return _METRICS[_family(spec.name).task]


def data_availability(root: Path | None = None) -> tuple[DataAvailability, ...]:
    """List every data set, whether it was found, and where. Cheap: no library is imported, no file is opened.

    Parameters
    ----------
    root : Path, optional
        Data root; default: the environment variable ``PRUNE_DEPLOY_DATA``.
    """
    return tuple(_availability(name, root) for name in data_set_names())


def _availability(name: str, root: Path | None) -> DataAvailability:
    family = _class(name)(name, "")
    if absent := missing(*family.modules):
        return DataAvailability(
            name=name,
            ok=False,
            reason=f"{' and '.join(absent)} not installed",
            hint=how_to_install("prune"),
        )
    if family.embedded:
        called = f", as {name}:{family.argument_form}" if family.argument_form else ""
        return DataAvailability(name=name, ok=True, where=f"comes with a library{called}")
    if family.argument_form:
        return DataAvailability(name=name, ok=True, where=f"{name}:{family.argument_form}, any folder")
    roots, also_installed = _roots(root, family)
    try:
        place = family.find(roots, also_installed=also_installed)
    except SourceError:
        looked = [str(place) for base in roots for place in family.places(base)]
        looked += [str(place) for place in family.installed if also_installed]
        reason = f"not in {', '.join(looked)}" if looked else "no data root is given"
        return DataAvailability(name=name, ok=False, reason=reason, hint=family.hint)
    return DataAvailability(name=name, ok=True, where=str(place))


def _class(name: str) -> type[Family]:
    module, _, attribute = DATA_SETS[name].partition(":")
    family: type[Family] = getattr(import_module(module), attribute)
    return family


def _family(name: str) -> Family:
    kind, colon, argument = name.partition(":")
    if kind not in DATA_SETS:
        folder = f"; for the folder of that name write 'imagefolder:{name}'" if Path(name).is_dir() else ""
        raise SourceError(f"unknown data set {name!r}{folder or suggestion(kind, data_set_names())}")
    family = _class(kind)
    if family.argument_form and not argument:
        raise SourceError(f"data set {name!r} needs a {family.argument_form.lower()}: {family.hint}")
    if colon and not family.argument_form:
        raise SourceError(f"data set {name!r}: {kind!r} takes nothing behind a colon; set data.root for its folder")
    return family(name, argument)


def _roots(root: Path | None, family: Family) -> tuple[tuple[Path, ...], bool]:
    """Return the data roots, and whether to look in system packages too: not if a root was asked for."""
    if root is not None:
        return (root.expanduser(),), False
    variable = os.environ.get(ROOT_VARIABLE)
    roots = (Path(variable).expanduser(),) if variable else ()
    return ((Path(), *roots) if family.argument_form else roots), True


def _prepared(spec: DataSpec, family: Family, raw: Raw, division: Division) -> DataSource:
    from deploy.sources.datasets.preparation import Preparation
    from deploy.sources.datasets.restoration import RestorationPreparation

    parts = {name: division.part(raw, name) for name in ("train", "validation", "test")}
    train = parts["train"]
    if spec.crop is not None and not isinstance(train, Files):
        raise SourceError(f"data.crop is for images in files, not for data set {spec.name!r}: leave it out")
    make: Preparation | RestorationPreparation
    if isinstance(train, Photographs):
        make = RestorationPreparation(spec, family, train)
    else:
        make = Preparation(spec, family, train)
    return DataSource(
        name=spec.name,
        classes=raw.classes,
        input_shape=make.input_shape,
        train=make(train, augment=spec.augment),
        train_plain=make(train),
        validation=make(parts["validation"]),
        test=make(parts["test"]),
        indices=division.indices,
        task=family.task,
        target_shape=make.target_shape,
        provenance={
            "spec": spec.model_dump(mode="json"),
            "classes": list(raw.classes),
            "input_shape": list(make.input_shape),
            "sha256": {
                origin: part.sha256()
                for origin, part in (("train", raw.train), ("validation", raw.validation), ("test", raw.test))
                if part is not None
            },
            "sha256_of": _HASHED[type(train)],
            "division": {
                name: {
                    "of": division.origins[name],
                    "n_images": len(division.indices[name]),
                    "indices_sha256": indices_sha256(division.indices[name]),
                    **({"photographs": list(part.names)} if isinstance(part, Photographs) else {}),
                }
                for name, part in parts.items()
            },
            "preprocessing": make.description,
        },
    )
