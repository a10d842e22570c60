"""Find the modules of the user's network that read a group, and the input channels of its units."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from pruners.gates.scale_sites import ScaleSite, unit_sites
from pruners.modules.modes import evaluating
from pruners.modules.outputs import device_of

if TYPE_CHECKING:
    from pruners.graph import Graph

__all__ = ["Reader", "find_readers"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """A convolution or linear layer that reads a group.

    Parameters
    ----------
    module : str
        Its name.
    channel_axis : int
        Channel axis of its input: 1, or -1 for a linear layer.
    positions : tuple of tuple of int
        ``positions[unit]`` are the channels of a unit in its input.
    shape : tuple of int
        Shape of its input, for the inputs the network was traced with.
    site : ScaleSite
        The columns of its weight for these channels.
    """

    module: str
    channel_axis: int
    positions: tuple[tuple[int, ...], ...]
    shape: tuple[int, ...]
    site: ScaleSite


def find_readers(
    network: nn.Module, graph: Graph, groups: Collection[str]
) -> tuple[dict[str, tuple[Reader, ...]], dict[str, str]]:
    """Find the layers that read each group, in the order of their first calls.

    The network runs once, in evaluation mode, on its example input.

    Parameters
    ----------
    network : Module
        The traced network, or a copy of it; its mode is restored.
    graph : Graph
        Its trace.
    groups : collection of str
        Names of groups.

    Returns
    -------
    tuple of (dict, dict)
        Group name -> its readers; and group name -> reason in one line, for each group not read by modules alone.
    """
    sites, reasons = unit_sites(graph, list(groups))
    owners = {
        f"{name}.weight" if name else "weight": (name, module)
        for name, module in network.named_modules()
        if isinstance(module, (_ConvNd, nn.Linear)) and module._parameters.get("weight") is not None
    }
    called = _input_shapes(network, graph, dict(owners.values()))
    order = {name: position for position, name in enumerate(called)}
    readers_of: dict[str, tuple[Reader, ...]] = {}
    for group, own in sites.items():
        outside = next((s.path for s in own if s.path not in owners or owners[s.path][0] not in called), None)
        if outside is not None:
            reasons[group] = (
                f"{outside} reads it, and is not the weight of a convolution or linear module that is called"
            )
            continue
        readers = [_reader(*owners[site.path], site, called) for site in own]
        readers_of[group] = tuple(sorted(readers, key=lambda reader: order[reader.module]))
    return readers_of, reasons


def _reader(name: str, module: nn.Module, site: ScaleSite, called: Mapping[str, tuple[int, ...]]) -> Reader:
    positions, axis = site.indices, -1
    if isinstance(module, _ConvNd):
        axis = 1
        if not module.transposed and module.groups > 1:
            width = module.in_channels // module.groups
            positions = tuple(tuple(p + g * width for g in range(module.groups) for p in unit) for unit in positions)
    return Reader(module=name, channel_axis=axis, positions=positions, shape=called[name], site=site)


def _input_shapes(network: nn.Module, graph: Graph, modules: Mapping[str, nn.Module]) -> dict[str, tuple[int, ...]]:
    """Return the shape of the first input of each module that is called with one, in the order of the first calls."""
    seen: dict[str, tuple[int, ...]] = {}

    def look(name: str, args: tuple[object, ...]) -> None:
        if args and isinstance(args[0], Tensor):
            seen.setdefault(name, tuple(args[0].shape))

    hooks = [
        module.register_forward_pre_hook(lambda _, args, name=name: look(name, args))
        for name, module in modules.items()
    ]
    try:
        with evaluating(network), torch.no_grad():
            graph.example.to(device_of(network))(network)
    finally:
        for hook in hooks:
            hook.remove()
    return seen
