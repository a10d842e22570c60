"""`LatencyTable`: predicts the latency of a network at any widths on one backend and machine; stored as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from benchmarks.errors import NotComparableError
from benchmarks.records.base import Record
from benchmarks.records.file import Filed
from benchmarks.tables.plan_space import GroupRange

__all__ = ["HeldOut", "LatencyTable", "LayerTime", "MeasuredPlan", "Steps", "TableKey", "Term"]


class Steps(Record):
    """Number of channel blocks a group fills in a layer, or of channels run by a slower kernel off the multiple."""

    group: str
    width: PositiveInt = Field(description="channels of one unit")
    off: NonNegativeInt = Field(
        0,
        description="if not 0: no blocks where channels are a multiple of it, otherwise fractions of a block count too",
    )

    def __call__(self, counts: Mapping[str, Any], block: int) -> Any:
        """Return that number for these kept counts; an array of them for arrays of counts."""
        channels = self.width * counts[self.group]
        return (channels % self.off != 0) * channels / block if self.off else -(-channels // block)


class Term(Record):
    """A time proportional to a product of block numbers."""

    ns: NonNegativeFloat
    factors: tuple[Steps, ...] = Field((), max_length=2, description="groups, or a residual block (1 if present)")

    def __call__(self, counts: Mapping[str, Any], block: int) -> Any:
        """Return nanoseconds at these kept counts; an array of them for arrays of counts, if there is a factor."""
        value: Any = self.ns
        for factor in self.factors:
            value = value * factor(counts, block)
        return value


class LayerTime(Record):
    """The time of one weighted layer, including what runs between it and the next one."""

    name: str = Field(description="ONNX node; empty for what comes before the first weighted one")
    share: NonNegativeFloat = Field(description="share of the time of the dense network's layers")
    error: NonNegativeFloat = Field(description="mean absolute error of the fit, as a share of the layer's time")
    terms: tuple[Term, ...]

    def time_ns(self, counts: Mapping[str, int], block: int) -> float:
        """Return nanoseconds at these kept counts."""
        return float(sum(term(counts, block) for term in self.terms))


class MeasuredPlan(Record):
    """A plan that was measured for the table."""

    counts: dict[str, int]
    whole_ns: PositiveFloat = Field(
        description="time of an unprofiled call, from its ratio to the dense network measured alternately"
    )
    dense_ns: PositiveFloat = Field(description="fastest call of the dense network, measured alternately with it")
    layers_ns: dict[str, NonNegativeFloat] = Field(description="time of each profiled layer")
    predicted_ns: float = Field(description="predicted by a table made without this plan; if `near`, with it")
    near: bool = Field(False, description="drawn around a plan chosen with the table, to refine the table there")


class HeldOut(Record):
    """How well a table predicts plans that were held out of its fit."""

    n_plans: PositiveInt
    mape: NonNegativeFloat = Field(description="mean absolute error as a share")
    worst: NonNegativeFloat
    rank_correlation: float | None = Field(
        ge=-1, le=1, description="Spearman's; None: not defined, as all predicted or all measured times are equal"
    )


class TableKey(Record):
    """What a table was measured for; it is refused for anything else."""

    model_sha256: str
    graph: str
    backend: str
    backend_version: str | None
    precision: str
    threads: PositiveInt
    device: str
    batch: PositiveInt
    shapes: dict[str, tuple[int, ...]] = Field(default_factory=dict, description="shapes of the inputs")
    machine: str = Field(description="fingerprint, including versions of packages")


_HASHED = {
    "model_sha256": "for another ONNX file",
    "graph": "for another network",
    "machine": "on another machine, or with other versions of packages",
}
"""What differs in words, for fields that are hashes."""


class LatencyTable(Filed):
    """Predicts the latency of a network at any kept counts."""

    what = "latency table"

    version: Literal[10] = 10
    key: TableKey
    started_utc: str
    groups: tuple[GroupRange, ...]
    blocks: dict[str, tuple[str, ...]] = Field(
        default_factory=dict, description="residual blocks whose absence was measured: the groups removed with each"
    )
    block: PositiveInt = Field(description="channels that the runtime computes together, inferred from the times")
    base_ns: float = Field(description="per call, independent of the counts; negative where the profiler adds overhead")
    layers: tuple[LayerTime, ...]
    held_out: HeldOut
    plans: tuple[MeasuredPlan, ...] = Field(min_length=1)
    seconds: NonNegativeFloat = Field(description="time spent building it")

    @model_validator(mode="after")
    def _names_its_groups(self) -> LatencyTable:
        used = {factor.group for layer in self.layers for term in layer.terms for factor in term.factors}
        # A plan without a block also counts the groups that go only with it.
        inside = {name for names in self.blocks.values() for name in names}
        used |= {name for plan in self.plans for name in plan.counts} - inside
        if unknown := sorted(used - self.whole.keys()):
            raise ValueError(f"there is no group {unknown[0]!r}")
        return self

    @property
    def whole(self) -> dict[str, int]:
        """Every group at its full size, every residual block present."""
        return {group.name: group.n_units for group in self.groups} | dict.fromkeys(self.blocks, 1)

    def predict_ns(self, counts: Mapping[str, int]) -> float:
        """Return the time of one call at these kept counts; groups not named are whole."""
        complete = {**self.whole, **counts}
        complete |= {name: 0 for block, names in self.blocks.items() if not complete[block] for name in names}
        return self.base_ns + sum(layer.time_ns(complete, self.block) for layer in self.layers)

    @property
    def dense_ns(self) -> float:
        """Predicted time of the dense network."""
        return self.predict_ns({})

    @property
    def measured_dense_ns(self) -> float:
        """Measured time of the dense network: its fastest call."""
        return min(plan.dense_ns for plan in self.plans)

    def require(self, key: TableKey, where: str) -> None:
        """Check that the table was measured for this key.

        Raises
        ------
        NotComparableError
            It was not; the message says what differs.
        """
        mine, asked = self.key.model_dump(), key.model_dump()
        other = [name for name in asked if mine[name] != asked[name]]
        if other:
            name = other[0]
            differs = _HASHED.get(name) or f"for {name.replace('_', ' ')} {mine[name]!r}, not {asked[name]!r}"
            raise NotComparableError(f"{where} was measured {differs}: build it again")
