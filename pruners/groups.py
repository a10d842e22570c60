"""`ChannelGroup`: channels that live or die together. Pure data; made by `pruners.graph`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pruners.plan import PruningPlan

__all__ = ["ChannelGroup", "Member", "removed_positions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """The share of one parameter (or buffer) axis that belongs to a group.

    Parameters
    ----------
    path : str
        Name of the parameter or buffer in the module, as in ``state_dict()``; the first name where it is shared.
    axis : int
        Axis of that tensor.
    indices : tuple of tuple of int
        ``indices[unit]`` are the positions along `axis` that go when `unit` goes. Equality is not assumed: a
        flatten gives H*W positions a unit, a concatenation an offset, a grouped convolution several.
    produces : bool
        True where the axis makes the channels (output axis of a convolution or linear layer), False where it
        only carries or consumes them.
    """

    path: str
    axis: int
    indices: tuple[tuple[int, ...], ...]
    produces: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelGroup:
    """Channels that live or die together.

    Parameters
    ----------
    name : str
        Stable name: path of the module whose parameter first produces the channels (``"layer1.0.conv1"``);
        made unique with ``"#2"`` where one module starts several groups.
    n_units : int
        How many units can be kept or removed one by one.
    members : tuple of Member
        Every parameter axis that shrinks with the group.
    exact : bool
        False where a norm across the channels (LayerNorm, GroupNorm) makes masking differ from removing.
    fixed : str
        Why the group may not be pruned; empty when it may.
    min_units : int
        Units that every plan keeps at least. More than 1 where the network traced again would have other units with
        fewer: a grouped convolution with one group left is an ordinary one, and a shuffle needs more channels in a
        group than it has groups.
    """

    name: str
    n_units: int
    members: tuple[Member, ...]
    exact: bool = True
    fixed: str = ""
    min_units: int = 1

    @property
    def prunable(self) -> bool:
        """True when no reason forbids to prune the group."""
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
