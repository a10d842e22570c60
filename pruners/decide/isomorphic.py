"""Isomorphic groups: groups that are built alike, so that their scores are comparable."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, TypeAlias

from pruners.groups import ChannelGroup, Member

if TYPE_CHECKING:
    from torch import nn

__all__ = ["isomorphic_classes", "tensor_kinds"]

Structure: TypeAlias = frozenset[tuple[tuple[str, int, tuple[int, ...], bool], int]]


def tensor_kinds(model: nn.Module) -> dict[str, str]:
    """Return the kind of each parameter and buffer of `model`: the class of its module and its own name.

    Examples
    --------
    ``{"layer1.0.conv1.weight": "Conv2d.weight", ...}``
    """
    return {
        f"{path}.{name}" if path else name: f"{type(module).__name__}.{name}"
        for path, module in model.named_modules()
        for name, _ in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))
    }


def isomorphic_classes(groups: Iterable[ChannelGroup], kinds: Mapping[str, str]) -> tuple[tuple[str, ...], ...]:
    """Put groups whose members are the same kinds of axes into one class.

    Two groups are in one class if the multisets of their members' (kind of tensor, axis, positions a unit takes,
    whether the axis makes the channels) are equal: all first convolutions of a residual stage's blocks, all hidden
    layers of a transformer's MLPs, but not these with its embedding. Sizes do not matter. `decide` with these classes
    ranks only within each class and removes the same share of units from all.

    The paper compares the graphs of the layers that a group joins, and calls groups alike if these are isomorphic.
    Here only the layers of a group are compared, not how they follow one another.

    Parameters
    ----------
    groups : iterable of ChannelGroup
        Groups of a traced network.
    kinds : Mapping of str to str
        Kind of each parameter and buffer, from `tensor_kinds`.

    Returns
    -------
    tuple of tuple of str
        Names of groups; classes in the order of their first group, groups in the given order.

    References
    ----------
    Fang, Ma, Bi Mi, Wang, "Isomorphic Pruning for Vision Models", ECCV 2024, arXiv:2407.04616.
    """
    classes: dict[Structure, list[str]] = {}
    for group in groups:
        classes.setdefault(_structure(group, kinds), []).append(group.name)
    return tuple(tuple(names) for names in classes.values())


def _structure(group: ChannelGroup, kinds: Mapping[str, str]) -> Structure:
    return frozenset(Counter(_axis(member, kinds) for member in group.members).items())


def _axis(member: Member, kinds: Mapping[str, str]) -> tuple[str, int, tuple[int, ...], bool]:
    widths = tuple(sorted({len(positions) for positions in member.indices}))
    return kinds[member.path], member.axis, widths, member.produces
