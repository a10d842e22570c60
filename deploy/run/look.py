"""Inspect a network and its data before there is a recipe: sizes, colour, and how to prepare the images.

Preparations are compared on training and validation images; test images are not used for the choice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from math import sqrt
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from benchmarks.subject.backend_options import require_backends
from deploy.errors import SourceError
from deploy.files.atomic import write_file
from deploy.files.commented_yaml import commented_yaml
from deploy.recipe import recipe_of
from deploy.report.answer.scores import is_chance
from deploy.report.formatting import score_brief
from deploy.run.own import COMMENTS, document_of, opening_of
from deploy.run.prepare import refuse_early
from deploy.run.progress import Progress
from deploy.run.wishes import Wishes
from deploy.sources.boundary import cause
from deploy.sources.datasets.data import load, metric_of, read_raw
from deploy.sources.datasets.data_spec import DataSpec
from deploy.sources.datasets.division import divide
from deploy.sources.datasets.family import Files, Raw
from deploy.sources.datasets.images import USUAL_CROP
from deploy.sources.network import build
from deploy.sources.network_spec import NetworkSpec
from pruners.recover.evaluate import evaluate

__all__ = ["Look", "look", "write_own_recipe"]

_LOOKED_AT = 1000
"""Number of images opened to check their size."""
_FEW = 2000
"""Number of training images below which a tenth of them is too few for validation."""
_SMALL, _TRIED_SMALL, _TRIED = 64, 256, 64
"""Side up to which images count as small, and images per part to compare preparations on: small, others."""
_GREY = ("1", "L", "I", "F")
"""Prefixes of PIL's modes: LA has transparency, I;16B 16 bits."""

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.SyncBatchNorm)

Say = Callable[[str], None]


class _Tried(NamedTuple):
    """A preparation, its wrong answers and loss, and how unlike the training images its images are."""

    spec: DataSpec
    n_wrong: int
    loss: float
    unlike: float


class Look(NamedTuple):
    """What a recipe can be made from.

    Parameters
    ----------
    data : DataSpec
        With everything that was found out.
    n_train : int
        Number of training images.
    """

    data: DataSpec
    n_train: int


def look(network: NetworkSpec, data: DataSpec, say: Say) -> Look:
    """Find out what `data` leaves open, and report it.

    The size is that of the images if they all have the same one, or the one that a library's networks are used with.
    The network is built for the images' own colours, or else for the other number of channels. If `crop` or `normalise`
    are open, those with the best accuracy are taken and, among equally good ones, those closest to the statistics of
    the first BatchNorm; images that already have the network's size are not cropped.

    Parameters
    ----------
    network : NetworkSpec
        A trained network.
    data : DataSpec
        Keys that are given are kept.
    say : callable
        Receives a line for each thing found.

    Raises
    ------
    SourceError
        The network or the data cannot be used; or images have several sizes, and none is given.
    """
    raw = read_raw(data)
    updates: dict[str, Any] = {}
    grey = False
    sizes: list[tuple[int, int]] = []
    if isinstance(raw.train, Files):
        sizes, grey = _seen(raw.train)
        say(_images(sizes, raw, grey=grey))
        if data.image_size is None and not network.name.startswith(("torchvision:", "timm:")):
            updates["image_size"] = _side(sizes, data)
        if "augment" not in data.model_fields_set:  # how the network was trained is not known
            updates["augment"] = False
    if raw.validation is None and "validation_fraction" not in data.model_fields_set:
        updates["validation_fraction"] = 0.1 if len(raw.train.labels) >= _FEW else 0.25
    data = data.model_copy(update=updates)
    n_train = len(divide(raw, data).indices["train"])
    if metric_of(data) == "accuracy":
        model, data = _built(network, data, raw, grey=grey)
        data = _best(model, data, raw, say, fit=sizes == [(data.image_size, data.image_size)])
    return Look(data, n_train)


def write_own_recipe(wishes_json: str, file: str) -> None:
    """Inspect network and data, and write a recipe for them; called in a child by the command line.

    Parameters
    ----------
    wishes_json : str
        A `Wishes` that names network and data.
    file : str
        Receives the recipe, whole or not at all.

    Raises
    ------
    SourceError, RecipeError, OutputError
        Network or data cannot be used, a wish is illegal, or the file cannot be written.
    """
    wishes = Wishes.model_validate_json(wishes_json)
    progress = Progress()
    asked = recipe_of(wishes.over(opening_of(wishes)), "command line")
    # Refuse what cannot work before inspecting anything.
    refuse_early(asked)
    require_backends(asked.bench.backends, asked.bench.device)
    with progress.bar("look at the network and its data"):
        found = look(asked.network, asked.data, progress.note)
    document = document_of(wishes, found.data, found.n_train)
    recipe_of(document, "command line")
    write_file(Path(file), commented_yaml(document, COMMENTS))


def _seen(part: Files) -> tuple[list[tuple[int, int]], bool]:
    """Return the sizes, as (width, height), of images spread over all of them, and whether all are grey."""
    from PIL import Image

    sizes, modes = set(), set()
    for path in part.paths[:: max(1, len(part.paths) // _LOOKED_AT)]:
        try:
            with Image.open(part.folder / path) as image:
                sizes.add(image.size)
                modes.add(image.mode)
        except Exception as error:  # PIL and its plugins raise anything
            raise SourceError(f"image {part.folder / path} cannot be read ({cause(error)})") from error
    return sorted(sizes), all(mode.startswith(_GREY) for mode in modes)


def _images(sizes: list[tuple[int, int]], raw: Raw, *, grey: bool) -> str:
    (width, height), *others = sizes
    size = f"{width} x {height}" if not others else f"of {len(sizes)} sizes"
    names = ", ".join(raw.classes[:3]) + (", ..." if len(raw.classes) > 3 else "")
    return (
        f"images: {len(raw.train.labels)} to {'divide' if raw.validation is None else 'train on'}, {size}, "
        f"{'grey' if grey else 'colour'}, {len(raw.classes)} classes ({names})"
    )


def _side(sizes: list[tuple[int, int]], data: DataSpec) -> int:
    (width, height), *others = sizes
    if others or width != height:
        seen = f"{width} x {height}{' and other sizes' if others else ''}"
        raise SourceError(
            f"images of {data.name} are {seen}, not squares of one size: give the side that the network takes, "
            "--image-size, in a recipe data.image_size"
        )
    return width


def _built(network: NetworkSpec, data: DataSpec, raw: Raw, *, grey: bool) -> tuple[nn.Module, DataSpec]:
    """Build the network for the images' own colours, or for the other number of channels if it takes only that."""
    choices = [data.channels] if data.channels or not isinstance(raw.train, Files) else [1, 3] if grey else [3, 1]
    refused: SourceError | None = None
    for channels in choices:
        spec = data.model_copy(update={"channels": channels})
        torch.manual_seed(0)
        try:
            few = {"limit": len(raw.classes), "normalise": spec.normalise or "none"}  # no statistics for a shape
            shape = load(spec.model_copy(update=few)).input_shape
            return build(network, n_classes=len(raw.classes), input_shape=shape).eval(), spec
        except SourceError as error:
            refused = refused or error
    assert refused is not None, "there is a choice"
    raise refused


def _best(model: nn.Module, data: DataSpec, raw: Raw, say: Say, *, fit: bool) -> DataSpec:
    """Return the preparation with the best accuracy; see `_chosen` for equally good ones.

    `fit` tells whether the images already have the network's size.
    """
    tried: list[_Tried] = []
    guessed = []
    for spec in _preparations(data, raw, fit=fit):
        limit = _TRIED_SMALL if spec.image_size is not None and spec.image_size <= _SMALL else _TRIED
        source = load(spec.model_copy(update={"limit": max(limit, len(raw.classes))}))
        parts = [evaluate(model, part) for part in (source.train_plain, source.validation)]
        n = sum(part.n for part in parts)
        score, loss = (sum(getattr(part, key) * part.n for part in parts) / n for key in ("score", "loss"))
        crop = f"crop {spec.crop}, " if isinstance(raw.train, Files) else ""
        wanted = spec.normalise if isinstance(spec.normalise, str) else "as given"
        say(f"prepared with {crop}normalise {wanted}: {score_brief('accuracy', score)} of {n} images are right")
        tried.append(_Tried(spec, n - round(score * n), loss, _unlike_training(model, source.train_plain)))
        guessed.append(is_chance(score, n, len(raw.classes)))
    if all(guessed):
        say("the network only guesses: are its weights given, and are its classes in alphabetical order?")
    return _chosen(tried).spec


def _chosen(tried: Sequence[_Tried]) -> _Tried:
    """Return the one with the fewest errors; if chance explains the difference, the one most like the training images.

    A network that is right about all images is right under several preparations, and most confident under the one with
    the strongest contrast. Its first BatchNorm tells which images it was trained on; without one the most confident is
    taken.
    """
    fewest = min(one.n_wrong for one in tried)
    alike = [one for one in tried if one.n_wrong - fewest <= 2 * sqrt(fewest + 1)]
    return min(alike, key=lambda one: (one.unlike, one.n_wrong, one.loss))


def _unlike_training(model: nn.Module, images: Dataset[Any]) -> float:
    """Return how far images are from the statistics of the first BatchNorm, 0 if there is none.

    Kullback-Leibler divergence of normal distributions, in nats, averaged over channels.
    """
    seen: list[tuple[Any, Tensor]] = []
    norms = [one for one in model.modules() if isinstance(one, _NORMS) and one.running_mean is not None]
    handles = [one.register_forward_pre_hook(lambda norm, inputs: seen.append((norm, inputs[0]))) for one in norms]
    n_images = len(images)  # type: ignore[arg-type]  # torch's Dataset does not say that ours have a length
    chosen = range(0, n_images, max(1, n_images // _TRIED))
    try:
        with torch.no_grad():
            model(torch.stack([images[index][0] for index in chosen]))
    finally:
        for handle in handles:
            handle.remove()
    if not seen:
        return 0.0
    norm, values = seen[0]
    var, mean = torch.var_mean(values, [axis for axis in range(values.ndim) if axis != 1])
    ratio = (var + norm.eps) / (norm.running_var + norm.eps)
    shift = (mean - norm.running_mean) ** 2 / (norm.running_var + norm.eps)
    return float((ratio + shift - 1 - ratio.log()).mean() / 2)


def _preparations(data: DataSpec, raw: Raw, *, fit: bool) -> Iterator[DataSpec]:
    files = isinstance(raw.train, Files)
    crops: list[Any] = [data.crop] if data.crop is not None or not files else ["none"] if fit else [USUAL_CROP, "none"]
    usual = ["train", "none", *(["imagenet"] if data.channels == 3 else [])]
    for crop, normalise in product(crops, [data.normalise] if data.normalise is not None else usual):
        yield data.model_copy(update={"crop": crop, "normalise": normalise})
