"""Build a network of the list, wrapped if it does not take tensors, with weights that all affect its output."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from deploy.errors import SourceError
from deploy.sources.detection import DetectorCore
from deploy.studies.coverage.libraries import MAKERS
from deploy.studies.coverage.rows import ListedInput, ListedNetwork
from pruners.modules.calls import NetworkCall
from pruners.modules.perturb import randomize_for_sensitivity
from pruners.modules.random_inputs import random_inputs
from pruners.plan import InputSpec

__all__ = ["FlowCore", "KeywordCore", "build", "fresh", "inputs_of"]

_FLOW_UPDATES = 2


class FlowCore(nn.Module):
    """An optical flow network with a fixed number of updates that returns only the last flow."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Estimate the flow between two images of shape (n, 3, height, width)."""
        flows: list[Tensor] = self.network(first, second, num_flow_updates=_FLOW_UPDATES)
        return flows[-1]


class KeywordCore(nn.Module):
    """Wraps a network with keyword inputs to take them by position."""

    def __init__(self, network: nn.Module, names: Iterable[str]) -> None:
        super().__init__()
        self.network = network
        self.names = tuple(names)

    def forward(self, *inputs: Tensor) -> Any:
        """Pass each input to the network by its name."""
        return self.network(**dict(zip(self.names, inputs, strict=True)))


def inputs_of(entry: ListedNetwork, *, seed: int) -> tuple[Tensor, ...]:
    """Draw the inputs of one call."""
    if isinstance(entry.inputs, dict):
        generator = torch.Generator().manual_seed(seed)
        return tuple(_draw(listed, generator) for listed in entry.inputs.values())
    return random_inputs([InputSpec(shape=shape) for shape in entry.inputs], seed=seed)


def _draw(listed: ListedInput, generator: torch.Generator) -> Tensor:
    if listed.value is not None:
        return torch.full(listed.shape, listed.value)
    if listed.below is not None:
        return torch.randint(listed.below, listed.shape, generator=generator)
    return torch.randn(listed.shape, generator=generator)


def build(entry: ListedNetwork, *, seed: int) -> nn.Module:
    """Build the network in evaluation mode, with seeded weights that make its output depend on every layer.

    The default initial weights would make comparisons of outputs meaningless: zero-initialised scales switch branches
    off, and unit norms hide which statistics belong to which channel.

    Raises
    ------
    SourceError
        The maker is unknown.
    """
    network = fresh(entry, seed=seed)
    randomize_for_sensitivity(network, NetworkCall(inputs_of(entry, seed=seed + 1)), seed=seed)
    return network


def fresh(entry: ListedNetwork, *, seed: int) -> nn.Module:
    """Build the network in evaluation mode as its library makes it; it has not been run.

    Raises
    ------
    SourceError
        The maker is unknown.
    """
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = _maker(entry)(**entry.options)
    if entry.wrapper == "detector":
        network = DetectorCore(network)
    elif entry.wrapper == "flow":
        network = FlowCore(network)
    elif isinstance(entry.inputs, dict):
        network = KeywordCore(network, entry.inputs)
    return network.eval()


def _maker(entry: ListedNetwork) -> Callable[..., nn.Module]:
    if entry.maker == "torchvision":
        from torchvision import models

        return lambda **options: _untrained(models.get_model, entry.name, options)
    if entry.maker == "timm":
        import timm

        return lambda **options: timm.create_model(entry.name, pretrained=False, **options)
    if entry.maker in MAKERS:
        return lambda **options: MAKERS[entry.maker](entry.name, options)
    path, colon, function = entry.maker.rpartition(":")
    if not colon or not Path(path).is_file():
        raise SourceError(
            f"maker {entry.maker!r} is not torchvision, timm, {', '.join(MAKERS)} or path/to/file.py:function"
        )
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    made: Callable[..., nn.Module] = getattr(module, function)
    return made


def _untrained(get_model: Callable[..., nn.Module], name: str, options: dict[str, Any]) -> nn.Module:
    return get_model(name, weights=None, **options)
