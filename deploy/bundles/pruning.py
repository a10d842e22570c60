"""What was removed from a network, and the proof that nothing else was: records of manifests and of results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from backends.reading.files import read_json
from benchmarks.records.base import Record

__all__ = [
    "DropSearch",
    "DropTry",
    "GroupCount",
    "MaskedCheck",
    "Proof",
    "PruningRecord",
    "SpeedLanding",
    "pruning_of_file",
]


class GroupCount(Record):
    """How many units of one group are kept."""

    name: str
    kept: NonNegativeInt
    of: PositiveInt = Field(description="units before pruning")

    @model_validator(mode="after")
    def _legal(self) -> GroupCount:
        if self.kept > self.of:
            raise ValueError(f"group {self.name!r} keeps {self.kept} of {self.of} units")
        return self

    @property
    def share(self) -> float:
        """Kept share, in [0, 1]."""
        return self.kept / self.of


class MaskedCheck(Record):
    """The comparison of masked and compact network, as `pruners.verify.Verification` describes it."""

    reference: Literal["masked parameters", "masked values", "zeros"] = Field(
        description="what the compact network was compared with; 'zeros': single weights are 0, no channel went"
    )
    removed_channels: NonNegativeInt = Field(0, description="output channels removed, over all layers")
    removed_parameters: NonNegativeInt = 0
    max_abs_error: float | None = Field(None, description="largest difference, with the weights as given")
    relative_error: float | None = Field(None, description="largest difference, as a share of the output's range")
    sensitivity: float | None = Field(
        None, description="how far masking moves the output, as a share of its range, with the weights as given"
    )
    probe_sensitivity: float | None = Field(None, description="the same with weights that depend on every channel")
    batch_sizes: tuple[PositiveInt, ...] = ()
    tolerance: float | None = Field(None, description="largest relative_error that is taken for rounding")
    zeros: NonNegativeInt = Field(0, description="weights that were set to zero, of `weights`")
    weights: NonNegativeInt = 0

    @property
    def moved(self) -> float | None:
        """How far masking moves the output at most, as a share of its range: what gives the check its meaning."""
        known = [value for value in (self.sensitivity, self.probe_sensitivity) if value is not None]
        return max(known, default=None)


class SpeedLanding(Record):
    """How close a plan came to a speed that was asked for; times as shares of the dense network's."""

    backend: str
    threads: PositiveInt
    asked: PositiveFloat
    tolerance: PositiveFloat = Field(description="how far off the measured time may be")
    predicted: tuple[PositiveFloat, ...] = Field(min_length=1, description="of the plan of each round")
    measured: tuple[PositiveFloat, ...] = Field(min_length=1)
    kept_round: NonNegativeInt = Field(description="index of the round whose plan is kept")
    macs: PositiveFloat = Field(description="share of the dense network's that is kept")
    importance: float | None = Field(
        None, description="mean over groups of the square root of the share of units kept; None: not known"
    )
    macs_by_flops: float | None = Field(
        None, description="MACs of uniform pruning by FLOPs, counts not aligned, where it is predicted to be as fast"
    )
    importance_by_flops: float | None = Field(None, description="importance of that")

    @property
    def asked_speed_up(self) -> float:
        """How many times faster than the dense network it was to be."""
        return 1 / self.asked

    @property
    def predicted_speed_up(self) -> float:
        """How many times faster the kept plan was predicted to be."""
        return 1 / self.predicted[self.kept_round]

    @property
    def measured_speed_up(self) -> float:
        """How many times faster the kept plan was measured to be."""
        return 1 / self.measured[self.kept_round]

    @property
    def met(self) -> bool:
        """Whether the kept plan is as fast as asked for, up to the tolerance."""
        return self.measured[self.kept_round] <= self.asked + self.tolerance

    def __str__(self) -> str:
        """Return in one sentence what was asked, predicted and measured."""
        n = len(self.measured)
        summary = (
            f"asked for {self.asked_speed_up:.2f}x the speed on {self.backend}, predicted "
            f"{self.predicted_speed_up:.2f}x, measured {self.measured_speed_up:.2f}x in "
            f"{n} round{'s' if n > 1 else ''}, with {self.macs:.1%} of the MACs"
        )
        if self.importance is None or self.importance_by_flops is None or self.macs_by_flops is None:
            return summary
        return (
            f"{summary}; kept importance {self.importance:.3f}, of uniform pruning by FLOPs to the same time "
            f"{self.importance_by_flops:.3f} with {self.macs_by_flops:.1%} of the MACs"
        )


class DropTry(Record):
    """One target that was pruned and fine-tuned to, and what it cost on the validation examples."""

    asked: str = Field(description="the target in words")
    reach: PositiveFloat = Field(description="1: as asked for; a kept share is the share asked for to this power")
    drop: float | None = Field(
        None, description="fall of the validation score: points of accuracy, or dB; None: the target is out of reach"
    )
    reason: str = Field("", description="why it is out of reach; else empty")


class DropSearch(Record):
    """The search for the smallest network that loses no more than is allowed."""

    allowed: NonNegativeFloat = Field(description="points of accuracy, or dB, on the validation examples")
    tries: tuple[DropTry, ...] = Field(min_length=1)
    kept: NonNegativeInt = Field(description="index of the try whose network is kept")
    beyond_target: bool = Field(False, description="the smallest was asked for: the target is only where to begin")

    @model_validator(mode="after")
    def _kept_is_a_network(self) -> DropSearch:
        if self.kept >= len(self.tries) or self.tries[self.kept].drop is None:
            raise ValueError(f"kept is {self.kept}, which is no try with a network")
        return self

    @property
    def best(self) -> DropTry:
        """The try whose network is kept."""
        return self.tries[self.kept]

    @property
    def reached(self) -> bool:
        """Whether the kept network loses no more than is allowed, and is as small as was asked for."""
        within = self.best.drop is not None and self.best.drop <= self.allowed
        return within and (self.beyond_target or self.best.reach >= 1)


class Proof(Record):
    """How the compact network was checked when it was made, and in which form it is."""

    verification: MaskedCheck
    landing: str | None = Field(
        None,
        description="where the plan landed and why, if 1 % or more below the target; empty: on it; None: no target",
    )
    speeds: tuple[SpeedLanding, ...] = Field((), description="how it came to the speeds that were asked for")
    drop: DropSearch | None = Field(None, description="what was tried under an allowed drop; None: nothing was asked")
    form: Literal["module", "graph"] = Field(description="of its own class, or a graph module")
    form_reason: str = Field("", description="why it is not of its own class; else empty")
    left_whole: str = Field("", description="groups left whole for it to keep its own class, and why; else empty")
    unranked: str = Field("", description="groups left whole as the method cannot rank them, and why; else empty")


class PruningRecord(Record):
    """What a plan removes, and how that was checked."""

    groups: tuple[GroupCount, ...] = Field(description="groups that lose units; all others keep everything")
    blocks: tuple[str, ...] = Field((), description="residual blocks that are removed whole")
    proof: Proof | None = Field(None, description="None: unknown, as in bundles of older versions")

    @property
    def removed_units(self) -> int:
        """Units removed, over all groups."""
        return sum(group.of - group.kept for group in self.groups)

    @classmethod
    def of(
        cls,
        kept: Mapping[str, Sequence[int]],
        sizes: Mapping[str, int],
        blocks: Sequence[str] = (),
        proof: Proof | None = None,
    ) -> PruningRecord:
        """Count what a plan keeps.

        Parameters
        ----------
        kept : Mapping of str to sequence of int
            Kept units by group, as in `pruners.plan.PruningPlan`.
        sizes : Mapping of str to int
            Units before pruning.
        blocks : sequence of str
            Residual blocks that are removed.
        proof : Proof, optional
            None: unknown.
        """
        groups = tuple(GroupCount(name=name, kept=len(units), of=sizes[name]) for name, units in kept.items())
        return cls(groups=groups, blocks=tuple(blocks), proof=proof)


def pruning_of_file(plan: Path) -> PruningRecord:
    """Count what a ``plan.json`` keeps, without the package `pruners`: a machine that only measures has none.

    Raises
    ------
    OSError, ValueError, KeyError
        The file is not a pruning plan.
    """
    counts = _KeptUnits.model_validate(read_json(plan))
    return PruningRecord.of(counts.kept, counts.sizes, counts.blocks)


class _KeptUnits(BaseModel):
    """What a record needs of a plan."""

    kept: dict[str, tuple[int, ...]]
    sizes: dict[str, int]
    blocks: tuple[str, ...] = ()
