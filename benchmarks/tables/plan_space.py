"""`PlanSpace`: which numbers of a dense ONNX file change with the kept counts of its channel groups, and how.

The pruning side writes it, the measuring side reads it to make a network of any widths from the dense file, without the
network's code.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from benchmarks.errors import SettingError
from benchmarks.records.base import Record
from benchmarks.records.file import Filed

__all__ = [
    "AttributePlace",
    "AxisPlace",
    "BlockPlace",
    "GroupRange",
    "Place",
    "PlanSpace",
    "Size",
    "ValuePlace",
    "WholeLayer",
]


class Size(Record):
    """An affine function of kept counts."""

    base: int = 0
    terms: tuple[tuple[str, int], ...] = Field((), description="group, and what one of its units adds")

    def __call__(self, counts: Mapping[str, int]) -> int:
        """Return the size for the kept `counts`, which name all groups of `terms`."""
        return self.base + sum(each * counts[group] for group, each in self.terms)


class AxisPlace(Record):
    """Length of one axis of a constant that a node reads."""

    kind: Literal["axis"] = "axis"
    node: NonNegativeInt = Field(description="index of the node in the graph")
    input: NonNegativeInt = Field(description="index of the node's input")
    axis: NonNegativeInt
    size: Size


class ValuePlace(Record):
    """One element of an integer constant that a node reads: of a shape or of split sizes."""

    kind: Literal["value"] = "value"
    node: NonNegativeInt
    input: NonNegativeInt
    index: NonNegativeInt = Field(description="index into the flattened constant")
    size: Size


class AttributePlace(Record):
    """An integer attribute of a node, or one element of a list, such as `group` of a depthwise convolution."""

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
    """A residual block ``x + f(x)`` that can be left out, so that only ``x`` remains."""

    name: str
    groups: tuple[str, ...] = Field(description="groups that are removed with it")
    nodes: tuple[NonNegativeInt, ...] = Field(description="indices in the graph: the nodes of f, and the addition")
    replaced: str = Field(description="the sum")
    by: str = Field(description="x")


class WholeLayer(Record):
    """A weighted layer that keeps all channels it makes in every plan."""

    node: NonNegativeInt = Field(description="index of the node in the graph")
    reason: str = Field(description="why no plan removes any of them")


class PlanSpace(Filed):
    """Which parts of a dense ONNX file depend on the kept counts of the groups of its network.

    The count of a residual block is 1 if it is present, and 0 if it is left out together with its groups.
    """

    what = "plan space"

    version: Literal[1] = 1
    model_sha256: str = Field(description="hash over the dense ONNX file and its external data")
    graph: str = Field(description="fingerprint of the traced network whose groups are named")
    groups: tuple[GroupRange, ...] = Field(min_length=1)
    places: tuple[Place, ...]
    blocks: tuple[BlockPlace, ...] = Field((), description="residual blocks whose absence is to be measured")
    whole_layers: tuple[WholeLayer, ...] = Field((), description="layers whose own channels no plan removes, and why")

    @model_validator(mode="after")
    def _names_its_groups(self) -> PlanSpace:
        used = {group for place in self.places for group, _ in place.size.terms}
        if unknown := sorted(used - self.whole.keys()):
            raise ValueError(f"there is no group {unknown[0]!r}")
        return self

    @property
    def whole(self) -> dict[str, int]:
        """Every group at its full size, every residual block present."""
        return {group.name: group.n_units for group in self.groups} | {block.name: 1 for block in self.blocks}

    def complete(self, counts: Mapping[str, int]) -> dict[str, int]:
        """Return `counts` with missing groups and blocks whole, and 0 for the groups of left-out blocks.

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
