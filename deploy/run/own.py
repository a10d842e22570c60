"""Build a recipe from command-line flags: its keys, defaults and comments. Imports no torch."""

from __future__ import annotations

from typing import Any

from deploy.recipe import Recipe
from deploy.run.wishes import Wishes
from deploy.sources.datasets.data_spec import DataSpec

__all__ = ["COMMENTS", "document_of", "opening_of"]

_UPDATES = 1000
"""Approximate number of fine-tuning updates that a network with trained weights needs to recover."""
_EPOCHS = (3, 40)
_FEW, _BATCH_OF_FEW, _BATCH = 2000, 32, 128

COMMENTS = {
    "name": "its folder is runs/NAME",
    "seed": "of every draw and of the order of measurements",
    "network.name": "FILE.py:FUNCTION, torchvision:NAME, timm:NAME or cifar:NAME",
    "network.weights": "a state dict, .pt, .ckpt, .safetensors, ...; DEFAULT: those published with a library's network",
    "data.name": "imagefolder:PATH, a folder for each class; or a data set of `deploy list`",
    "data.root": "folder that relative paths of data are in",
    "data.image_size": "side of the square that the network gets",
    "data.crop": "share of the shorter side that is cut out of the middle, 0.875 is usual; none: the whole image",
    "data.channels": "1 grey, 3 colour",
    "data.augment": "crop and mirror training images at random; best as the network was trained",
    "data.normalise": "train, imagenet, none, or {mean: [...], std: [...]}; best as the network was trained",
    "data.validation_fraction": "share of the training images that decides what is kept; test images decide nothing",
    "prune.method": "one of `deploy list`",
    "prune.target": "or {latency_ms: 8, on: ort}, {flops: 0.5}, {params: 0.5}, ...",
    "finetune.epochs": "more recover more accuracy",
    "finetune.lr": "the largest; falls to 0 along a cosine",
    "max_drop": "points of accuracy that may be lost on validation images; else milder targets are tried",
    "beyond_target": "also try smaller networks than the target, as long as they are within max_drop",
    "bench.backends": "measured on these; ort, openvino, torch, trt",
    "bench.threads": "of one inference; left out: every core",
    "bench.budget_s": "seconds of measuring for each backend",
}
"""Comments behind the keys of a recipe written for a person."""


def document_of(wishes: Wishes, data: DataSpec, n_train: int) -> dict[str, Any]:
    """Return the recipe as a mapping of JSON values, with the wishes in place of defaults.

    Parameters
    ----------
    wishes : Wishes
        From the command line.
    data : DataSpec
        With what was found out about the data.
    n_train : int
        Number of training images, which determines batch size and epochs of fine-tuning.
    """
    batch_size = _BATCH_OF_FEW if n_train < _FEW else _BATCH
    per_epoch = -(-n_train // batch_size)
    opening = opening_of(wishes)
    known = data.model_dump(mode="json", exclude_unset=True, exclude_none=True)
    opening["data"] = {key: known[key] for key in DataSpec.model_fields if key in known}
    epochs = wishes.epochs or min(max(round(_UPDATES / per_epoch), _EPOCHS[0]), _EPOCHS[1])
    opening["finetune"] = {
        "epochs": epochs,
        "batch_size": batch_size,
        "lr": 0.001,
        "optimizer": "adamw",
        "warmup_epochs": min(1, epochs - 1),
        "clip_norm": 1.0,
    }
    document = wishes.over(opening)
    return {key: document[key] for key in Recipe.model_fields if key in document}


def opening_of(wishes: Wishes) -> dict[str, Any]:
    """Return the initial recipe, before network and data are inspected."""
    return {
        "version": 1,
        "name": wishes.name,
        "seed": 0,
        "network": {},
        "data": {},
        "prune": {"method": "criterion", "settings": {"criterion": "taylor_fo", "batches_per_step": 10}},
        "finetune": {"epochs": _EPOCHS[0]},
        "bench": {"backends": ["ort"]},
    }
