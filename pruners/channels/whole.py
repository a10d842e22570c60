"""List the layers that stay whole, and why: nothing is left out silently."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

from torch import Tensor

from pruners.channels.labels import Labels, Value
from pruners.channels.propagation import Propagation
from pruners.groups import ChannelGroup

__all__ = ["refusals", "whole_layers"]


def whole_layers(
    labels: Labels, tensors: Mapping[str, Value], groups: Sequence[ChannelGroup], used: set[str]
) -> dict[str, str]:
    """Find the layers that lose none of their own channels.

    A layer that produces channels is one of them if none of its groups may be pruned; any other layer (a norm, a
    scale) if no prunable group runs through it.

    Parameters
    ----------
    labels : Labels
        Closed labels.
    tensors : Mapping of str to Value
        Labelled parameters by name.
    used : set of str
        Names of the parameters that the network computes with.

    Returns
    -------
    dict of str to str
        Path of the layer (or name of a parameter outside any layer) -> the reason, largest layers first.
    """
    makes: dict[str, str] = {}
    shrinks: set[str] = set()
    makes_some: set[str] = set()
    for group in groups:
        for member in group.members:
            layer = _layer_of(member.path)
            if member.produces:
                makes[layer] = group.fixed or makes.get(layer, "")
            if group.prunable:
                (makes_some if member.produces else shrinks).add(layer)
    layers: dict[str, list[str]] = {}
    for path in tensors:
        layers.setdefault(_layer_of(path), []).append(path)
    whole = {}
    for layer, paths in layers.items():
        if layer in makes_some or (layer in shrinks and all(len(tensors[path].shape) < 2 for path in paths)):
            continue
        whole[layer] = makes.get(layer) or _reason(labels, [tensors[path] for path in paths if path in used])
    return dict(sorted(whole.items(), key=lambda item: -sum(prod(tensors[path].shape) for path in layers[item[0]])))


def refusals(walk: Propagation, n_parameter_labels: int) -> dict[str, str]:
    """Return the nodes whose operator was refused, and why, without those that only touch constants of the code.

    Parameters
    ----------
    walk : Propagation
        With closed labels.
    n_parameter_labels : int
        Number of labels of parameters and buffers. They come first, and a class is known by its smallest label.
    """

    def touches(slot: Tensor) -> bool:
        classes = walk.labels.classes(slot)
        return bool(((classes > 0) & (classes < n_parameter_labels)).any())

    return {node: why for node, why in walk.unknown.items() if any(map(touches, walk.refused[node]))}


def _layer_of(path: str) -> str:
    return path.rpartition(".")[0] or path


def _reason(labels: Labels, parameters: Sequence[Value]) -> str:
    """Return the first lock on the largest parameters."""
    if not parameters:
        return "what the network computes in evaluation does not use it"
    for value in sorted(parameters, key=lambda value: -prod(value.shape)):
        for slot in value.slots:
            lock = labels.lock_of(int(slot.reshape(-1)[0]))
            if lock is not None:
                return lock.reason
    return "no layer makes channels of it"
