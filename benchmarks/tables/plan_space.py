"""`PlanSpace`: which numbers of a dense ONNX file change with the kept counts of its channel groups, and how.

Written by the side that prunes, read by the side that measures: with it a network of any widths is made from the dense
file, without the network's code.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from benchmarks.errors import SettingError
from benchmarks.records.base import Record
from benchmarks.records.file import Filed

__all__ = ["AttributePlace", "AxisPlace", "BlockPlace", "GroupRange", "Place", "PlanSpace", "Size", "ValuePlace"]


class Size(Record):
    """An affine function of kept counts."""

    base: int = 0
    terms: tuple[tuple[str, int], ...] = Field((), description="group, and what one of its units adds")

    def __call__(self, counts: Mapping[str, int]) -> int:
        """Return the size where the groups keep `counts` units; all groups of `terms` are in it."""
        return self.base + sum(each * counts[group] for group, each in self.terms)


class AxisPlace(Record):
    """Length of one axis of a constant that a node reads."""

    kind: Literal["axis"] = "axis"
    node: NonNegativeInt = Field(description="index of the node in the graph")
    input: NonNegativeInt = Field(description="which of its inputs")
    axis: NonNegativeInt
    size: Size


class ValuePlace(Record):
    """One element of an integer constant that a node reads: of a shape, of sizes to split into."""

    kind: Literal["value"] = "value"
    node: NonNegativeInt
    input: NonNegativeInt
    index: NonNegativeInt = Field(description="of the flattened constant")
    size: Size


class AttributePlace(Record):
    """An integer attribute of a node, or one element of a list of them: `group` of a depthwise convolution."""

    kind: Literal["attribute"] = "attribute"
    node: NonNegativeInt
    name: str
    index: NonNegativeInt = 0
    size: Size


Place = Annotated[AxisPlace | ValuePlace | AttributePlace, Field(discriminator="kind")]


class GroupRange(Record):
    """The counts that a channel group may keep."""

    name: str
    n_units: PositiveInt
    min_units: PositiveInt = 1


class BlockPlace(Record):
    """A residual block ``x + f(x)`` that can be left out, so that ``x`` goes on alone."""

    name: str
    groups: tuple[str, ...] = Field(description="that go with it")
    nodes: tuple[NonNegativeInt, ...] = Field(description="indices in the graph: of f, and of the addition")
    replaced: str = Field(description="the sum")
    by: str = Field(description="x")


class PlanSpace(Filed):
    """What of a dense ONNX file follows the kept counts of the groups of its network.

    Counts of a residual block are 1 where it is there and 0 where it is left out, with the groups that go with it.
    """

    what = "plan space"

    version: Literal[1] = 1
    model_sha256: str = Field(description="of the dense ONNX file and its external data")
    graph: str = Field(description="fingerprint of the traced network whose groups are named")
    groups: tuple[GroupRange, ...]
    places: tuple[Place, ...]
    blocks: tuple[BlockPlace, ...] = Field((), description="those whose absence is to be measured")

    @property
    def whole(self) -> dict[str, int]:
        """Every group at its full size, every block there."""
        return {group.name: group.n_units for group in self.groups} | {block.name: 1 for block in self.blocks}

    def complete(self, counts: Mapping[str, int]) -> dict[str, int]:
        """Return `counts` with what it leaves out whole, and 0 for the groups that go with a block.

        Raises
        ------
        SettingError
            A group is unknown, or its count is out of range.
        """
        full = self.whole
        gone = {
            name: 0 for block in self.blocks if not counts.get(block.name, 1) for name in (block.name, *block.groups)
        }
        counts = {name: count for name, count in counts.items() if name not in gone}
        least = {group.name: group.min_units for group in self.groups} | {block.name: 1 for block in self.blocks}
        for name, count in counts.items():
            if name not in full:
                raise SettingError(f"the plan space has no group {name!r}")
            if not least[name] <= count <= full[name]:
                raise SettingError(f"group {name!r} keeps {least[name]} to {full[name]} units, got {count}")
        return {**full, **counts, **gone}
