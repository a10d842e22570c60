"""`Policy`: what is pruned if there is a choice. Stored in a plan, so that a later trace makes the same choices."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Attention", "Grouped", "Policy"]

Attention = Literal["heads", "head_size"]
Grouped = Literal["groups", "positions"]


class Policy(BaseModel):
    """What is pruned if there is a choice.

    Parameters
    ----------
    attention : {"heads", "head_size"}
        Whether the unit of an attention is a whole head, or one position of every head.
    grouped : dict of str to {"groups", "positions"}
        For a grouped convolution or GroupNorm, by the name of its weight: whether the unit is a whole group, or the
        channel at one position of every group, so that all groups keep equally many. The first trace of a network picks
        what gives more units, and later ones keep that.
    outputs : tuple of str
        Outputs whose channels stay; all others may shrink. Patterns, see
        `pruners.channels.outputs.wanted_outputs`; empty: all.
    """

    model_config = ConfigDict(extra="forbid")

    attention: Attention = "heads"
    grouped: dict[str, Grouped] = Field(default_factory=dict)
    outputs: tuple[str, ...] = ()

    def of_groups(self, name: str, groups: int, per_group: int) -> Grouped:
        """Return the choice for a layer of `groups` groups of `per_group` channels, and keep it."""
        return self.grouped.setdefault(name, "groups" if groups >= per_group else "positions")
