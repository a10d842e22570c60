"""`ChannelGroup`: channels that are kept or removed together. Pure data, made by `pruners.graph`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pruners.plan import PruningPlan

__all__ = ["ChannelGroup", "Member", "removed_positions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """The part of one parameter (or buffer) axis that belongs to a group.

    Parameters
    ----------
    path : str
        Name of the parameter or buffer in the module, as in ``state_dict()``; the first name if it is shared.
    axis : int
        Axis of that tensor.
    indices : tuple of tuple of int
        ``indices[unit]`` are the positions along `axis` that are removed with `unit`. Not always ``(unit,)``: a
        flatten gives H*W positions per unit, a concatenation an offset, a grouped convolution several.
    produces : bool
        True if the axis produces the channels (output axis of a convolution or linear layer), False if it only
        carries or consumes them.
    """

    path: str
    axis: int
    indices: tuple[tuple[int, ...], ...]
    produces: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelGroup:
    """Channels that are kept or removed together.

    Parameters
    ----------
    name : str
        Stable name: path of the module whose parameter first produces the channels (``"layer1.0.conv1"``);
        made unique with ``"#2"`` if one module starts several groups.
    n_units : int
        Number of units that can be kept or removed individually.
    members : tuple of Member
        Every parameter axis that shrinks with the group.
    exact : bool
        False if a norm across the channels (LayerNorm, GroupNorm) makes masking differ from removing.
    fixed : str
        Why the group may not be pruned; empty when it may.
    min_units : int
        Least number of units that every plan keeps. More than 1 if the network, traced again with fewer, would have
        other units: a grouped convolution with one group left is an ordinary one, and a shuffle needs more channels
        per group than it has groups.
    """

    name: str
    n_units: int
    members: tuple[Member, ...]
    exact: bool = True
    fixed: str = ""
    min_units: int = 1

    @property
    def prunable(self) -> bool:
        """True if there is no reason against pruning the group."""
        return not self.fixed


def removed_positions(groups: Sequence[ChannelGroup], plan: PruningPlan) -> dict[str, dict[int, list[int]]]:
    """Return the positions that a plan removes: tensor name -> axis -> ascending positions."""
    gone: dict[str, dict[int, list[int]]] = {}
    for group in groups:
        removed = plan.removed(group.name)
        for member in group.members if removed else ():
            axes = gone.setdefault(member.path, {})
            axes.setdefault(member.axis, []).extend(p for unit in removed for p in member.indices[unit])
    return {path: {axis: sorted(where) for axis, where in axes.items()} for path, axes in gone.items()}
