"""Networks of other libraries, built from their own configurations with random weights; nothing is downloaded.

The libraries are optional; asking for a network of a missing one names the extra to install.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from torch import nn

__all__ = ["MAKERS"]


def _ultralytics(name: str, options: dict[str, Any]) -> nn.Module:
    network: nn.Module = import_module("ultralytics").YOLO(f"{name}.yaml", **options).model
    return network


def _transformers(_: str, options: dict[str, Any]) -> nn.Module:
    network_class = getattr(import_module("transformers"), options["class"])
    network: nn.Module = network_class(network_class.config_class(**options["config"]))
    return network


def _segmentation(name: str, options: dict[str, Any]) -> nn.Module:
    decoder, _, encoder = name.partition("-")
    library = import_module("segmentation_models_pytorch")
    network: nn.Module = library.create_model(decoder, encoder_name=encoder, encoder_weights=None, **options)
    return network


def _monai(name: str, options: dict[str, Any]) -> nn.Module:
    network: nn.Module = getattr(import_module("monai.networks.nets"), name)(**options)
    return network


def _torchaudio(name: str, options: dict[str, Any]) -> nn.Module:
    network: nn.Module = getattr(import_module("torchaudio.models"), name)(**options)
    return network


def _open_clip(_: str, options: dict[str, Any]) -> nn.Module:
    network: nn.Module = import_module("open_clip").CLIP(**options)
    return network


MAKERS: dict[str, Callable[[str, dict[str, Any]], nn.Module]] = {
    "ultralytics": _ultralytics,
    "transformers": _transformers,
    "segmentation-models-pytorch": _segmentation,
    "monai": _monai,
    "torchaudio": _torchaudio,
    "open-clip-torch": _open_clip,
}
"""For each package of the ``libraries`` extra, a function of the network's name and options."""
