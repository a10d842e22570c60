"""`LatencyTable`: how long a network takes at any widths on one backend of one machine; kept as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from benchmarks.errors import NotComparableError
from benchmarks.records.base import Record
from benchmarks.records.file import Filed
from benchmarks.tables.plan_space import GroupRange

__all__ = ["HeldOut", "LatencyTable", "LayerTime", "MeasuredPlan", "Steps", "TableKey", "Term"]


class Steps(Record):
    """How many blocks of channels a group fills in a layer, or those that another kernel computes one by one."""

    group: str
    width: PositiveInt = Field(description="channels of one unit")
    off: NonNegativeInt = Field(
        0, description="if not 0: no block where channels are a multiple of it, else parts of a block count as parts"
    )

    def __call__(self, counts: Mapping[str, int], block: int) -> float:
        """Return the number at these kept counts."""
        channels = self.width * counts[self.group]
        if self.off:
            return channels / block if channels % self.off else 0.0
        return -(-channels // block)


class Term(Record):
    """A time that grows with the product of numbers of blocks."""

    ns: NonNegativeFloat
    factors: tuple[Steps, ...] = Field((), max_length=2, description="groups, or a residual block that is there (1)")

    def __call__(self, counts: Mapping[str, int], block: int) -> float:
        """Return nanoseconds at these kept counts."""
        value = self.ns
        for factor in self.factors:
            value *= factor(counts, block)
        return value


class LayerTime(Record):
    """The time of one weighted layer, with what the runtime runs between it and the next one."""

    name: str = Field(description="ONNX node; empty for what comes before the first weighted one")
    share: NonNegativeFloat = Field(description="of the dense network's layers")
    error: NonNegativeFloat = Field(description="mean absolute error of the fit, as a share of the layer's time")
    terms: tuple[Term, ...]

    def time_ns(self, counts: Mapping[str, int], block: int) -> float:
        """Return nanoseconds at these kept counts."""
        return sum(term(counts, block) for term in self.terms)


class MeasuredPlan(Record):
    """A plan that was run for the table."""

    counts: dict[str, int]
    whole_ns: PositiveFloat = Field(description="an unprofiled call, from its share of the dense network's in turn")
    dense_ns: PositiveFloat = Field(description="the dense network's fastest call in turn with it")
    layers_ns: dict[str, NonNegativeFloat] = Field(description="of the profiled layers")
    predicted_ns: PositiveFloat = Field(description="by a table made without this plan; if `near`, with it")
    near: bool = Field(False, description="drawn around a plan that was decided by the table, to refine it there")


class HeldOut(Record):
    """How well plans are predicted by a table that was made without them."""

    n_plans: PositiveInt
    mape: NonNegativeFloat = Field(description="mean absolute error as a share")
    worst: NonNegativeFloat
    rank_correlation: float = Field(ge=-1, le=1, description="Spearman")


class TableKey(Record):
    """What a table is good for: it is refused for anything else."""

    model_sha256: str
    graph: str
    backend: str
    backend_version: str | None
    precision: str
    threads: PositiveInt
    device: str
    batch: PositiveInt
    shapes: dict[str, tuple[int, ...]] = Field(default_factory=dict, description="of the inputs")
    machine: str = Field(description="fingerprint, versions of packages included")


class LatencyTable(Filed):
    """Predicts how long a network takes at any kept counts."""

    what = "latency table"

    version: Literal[4] = 4
    key: TableKey
    started_utc: str
    groups: tuple[GroupRange, ...]
    blocks: dict[str, tuple[str, ...]] = Field(
        default_factory=dict, description="residual blocks whose absence was measured: the groups that go with each"
    )
    block: PositiveInt = Field(description="channels that the runtime computes together, as the times show")
    base_ns: float = Field(description="of a call, whatever the counts; less than 0 where the profiler adds more")
    layers: tuple[LayerTime, ...]
    held_out: HeldOut
    plans: tuple[MeasuredPlan, ...]
    seconds: NonNegativeFloat = Field(description="that it took to make")

    @property
    def whole(self) -> dict[str, int]:
        """Every group at its full size, every block there."""
        return {group.name: group.n_units for group in self.groups} | dict.fromkeys(self.blocks, 1)

    def predict_ns(self, counts: Mapping[str, int]) -> float:
        """Return the time of one call at these kept counts; groups that are not named are whole."""
        complete = {**self.whole, **counts}
        complete |= {name: 0 for block, names in self.blocks.items() if not complete[block] for name in names}
        return self.base_ns + sum(layer.time_ns(complete, self.block) for layer in self.layers)

    @property
    def dense_ns(self) -> float:
        """Predicted time of the whole network."""
        return self.predict_ns({})

    @property
    def measured_dense_ns(self) -> float:
        """Measured time of the whole network: its fastest call."""
        return min(plan.dense_ns for plan in self.plans)

    def require(self, key: TableKey, where: str) -> None:
        """Check that the table was made for this.

        Raises
        ------
        NotComparableError
            It was not; the message names what differs.
        """
        mine, asked = self.key.model_dump(), key.model_dump()
        other = [name for name in asked if mine[name] != asked[name]]
        if other:
            name = other[0]
            raise NotComparableError(
                f"{where} was measured for {name.replace('_', ' ')} {mine[name]!r}, not {asked[name]!r}: build it again"
            )
