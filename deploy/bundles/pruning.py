"""Records of what was removed from a network, with the proof; used in manifests and results."""

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
    """Number of units kept in one group."""

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
    """Comparison of the masked and the compact network; see `pruners.verify.Verification`."""

    reference: Literal["masked parameters", "masked values", "zeros"] = Field(
        description="what the compact network was compared with; 'zeros': single weights are 0, no channel was removed"
    )
    removed_channels: NonNegativeInt = Field(0, description="output channels removed, over all layers")
    removed_parameters: NonNegativeInt = 0
    max_abs_error: float | None = Field(None, description="largest difference, with the weights as given")
    relative_error: float | None = Field(None, description="largest difference, as a share of the output's range")
    sensitivity: float | None = Field(
        None, description="how far masking moves the output, as a share of its range, with the weights as given"
    )
    probe_sensitivity: float | None = Field(
        None, description="the same with weights that make the output depend on every channel"
    )
    batch_sizes: tuple[PositiveInt, ...] = ()
    tolerance: float | None = Field(None, description="largest relative_error attributed to rounding")
    zeros: NonNegativeInt = Field(0, description="weights that were set to zero, of `weights`")
    weights: NonNegativeInt = 0

    @property
    def moved(self) -> float | None:
        """Largest effect of masking on the output, as a share of its range; if it is small the check means little."""
        known = [value for value in (self.sensitivity, self.probe_sensitivity) if value is not None]
        return max(known, default=None)


class SpeedLanding(Record):
    """How close a plan came to the requested speed; times as shares of the dense network's."""

    backend: str
    threads: PositiveInt
    asked: PositiveFloat
    tolerance: PositiveFloat = Field(description="how far off the measured time may be")
    predicted: tuple[PositiveFloat, ...] = Field(min_length=1, description="for the plan of each round")
    measured: tuple[PositiveFloat, ...] = Field(min_length=1)
    kept_round: NonNegativeInt = Field(description="index of the round whose plan is kept")
    why_off: str = Field("", description="why the kept plan is off by more than the tolerance; empty if it is not")
    macs: PositiveFloat = Field(description="share of the dense network's MACs that is kept")
    importance: float | None = Field(
        None, description="mean over groups of the square root of the share of units kept; None: not known"
    )
    macs_by_flops: float | None = Field(
        None, description="MACs of uniform pruning by FLOPs, counts not aligned, at which the same time is predicted"
    )
    importance_by_flops: float | None = Field(None, description="importance kept by that uniform pruning")

    @property
    def asked_speed_up(self) -> float:
        """Requested speed-up over the dense network."""
        return 1 / self.asked

    @property
    def predicted_speed_up(self) -> float:
        """Predicted speed-up of the kept plan."""
        return 1 / self.predicted[self.kept_round]

    @property
    def measured_speed_up(self) -> float:
        """Measured speed-up of the kept plan."""
        return 1 / self.measured[self.kept_round]

    @property
    def met(self) -> bool:
        """Whether the kept plan is as fast as requested, within the tolerance."""
        return self.measured[self.kept_round] <= self.asked + self.tolerance

    def __str__(self) -> str:
        """Return one sentence: the requested, predicted and measured speed."""
        n = len(self.measured)
        summary = (
            f"asked for {self.asked_speed_up:.2f}x the speed on {self.backend}, predicted "
            f"{self.predicted_speed_up:.2f}x, measured {self.measured_speed_up:.2f}x in "
            f"{n} round{'s' if n > 1 else ''}, with {self.macs:.1%} of the MACs"
        )
        if self.importance is not None and self.importance_by_flops is not None and self.macs_by_flops is not None:
            summary += (
                f"; kept importance {self.importance:.3f}, of uniform pruning by FLOPs to the same time "
                f"{self.importance_by_flops:.3f} with {self.macs_by_flops:.1%} of the MACs"
            )
        return f"{summary}; off by more than {self.tolerance:g}: {self.why_off}" if self.why_off else summary


class DropTry(Record):
    """One target that was tried, and the drop in validation score after fine-tuning."""

    asked: str = Field(description="the target in words")
    reach: PositiveFloat = Field(
        description="1: the requested target; a kept share is the requested share to this power"
    )
    drop: float | None = Field(
        None, description="drop in the validation score: points of accuracy, or dB; None: the target is out of reach"
    )
    reason: str = Field("", description="why it is out of reach; otherwise empty")


class DropSearch(Record):
    """Search for the smallest network whose score drops no more than allowed."""

    allowed: NonNegativeFloat = Field(description="points of accuracy, or dB, on the validation examples")
    tries: tuple[DropTry, ...] = Field(min_length=1)
    kept: NonNegativeInt = Field(description="index of the try whose network is kept")
    beyond_target: bool = Field(
        False, description="whether the smallest network was requested; the target is then only where the search began"
    )

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
        """Whether the kept network drops no more than allowed and is as small as requested."""
        within = self.best.drop is not None and self.best.drop <= self.allowed
        return within and (self.beyond_target or self.best.reach >= 1)


class Proof(Record):
    """How the compact network was checked when it was made, and its form."""

    verification: MaskedCheck
    landing: str | None = Field(
        None,
        description="if the plan landed 1 % or more below target: where, and why; empty: on target; None: no target",
    )
    speeds: tuple[SpeedLanding, ...] = Field((), description="how close it came to each requested speed")
    drop: DropSearch | None = Field(None, description="what was tried under an allowed drop; None: no drop was given")
    form: Literal["module", "graph"] = Field(
        description="'module': the network keeps its own class; 'graph': it is a graph module"
    )
    form_reason: str = Field("", description="why it does not keep its own class; otherwise empty")
    left_whole: str = Field(
        "", description="groups left whole so that it keeps its own class, and why; otherwise empty"
    )
    unranked: str = Field(
        "", description="groups left whole because the method cannot rank them, and why; otherwise empty"
    )


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
    """Count what a ``plan.json`` keeps, without the package `pruners`, which a measuring machine lacks.

    Raises
    ------
    OSError, ValueError, KeyError
        The file is not a pruning plan.
    """
    counts = _KeptUnits.model_validate(read_json(plan))
    return PruningRecord.of(counts.kept, counts.sizes, counts.blocks)


class _KeptUnits(BaseModel):
    """The fields of a plan that the record needs."""

    kept: dict[str, tuple[int, ...]]
    sizes: dict[str, int]
    blocks: tuple[str, ...] = ()
