"""`AlignedPlan`: the predicted and measured time of a plan whose counts fill the channel blocks of a runtime."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveFloat

from benchmarks.records.base import Record

__all__ = ["AlignedPlan", "Rounding"]

Rounding = Literal["not", "to the nearest", "up", "best"]


class AlignedPlan(Record):
    """A plan whose counts fill the channel blocks of the runtime, or that of the pruned network itself."""

    rounded: Rounding = Field(
        description="how its counts were made multiples of the block; best: decided anew, to keep the most in the time "
        "that the MACs of the pruned network promised"
    )
    counts: dict[str, NonNegativeInt] = Field(
        description="kept units of each group; for a residual block 1 if present, 0 if not"
    )
    importance: float | None = Field(
        None, description="mean over the groups of the square root of the share of units kept; None in older files"
    )
    macs_share: float | None = Field(description="share of the dense MACs; None: not known")
    predicted_share: float = Field(
        description="share of the dense time, by the latency table; may be negative for a plan much narrower than the "
        "measured ones"
    )
    measured_share: PositiveFloat | None = Field(
        None, description="share of the dense time, measured alternately with it"
    )
