"""`Criterion`: base class of all importance criteria. The base class checks; a criterion computes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, final

from pydantic import BaseModel, ConfigDict

from pruners.errors import MethodError
from pruners.groups import ChannelGroup
from pruners.importance.evidence import Evidence
from pruners.importance.reduce import MemberScores, Reduction, reduce_members
from pruners.importance.scores import Scores, require_finite

if TYPE_CHECKING:
    from torch import nn

    from pruners.graph import Graph

__all__ = ["Criterion"]


class Criterion(BaseModel, ABC):
    """A number for each unit; low means unimportant.

    A subclass states `name`, `paper`, `needs_data`, `needs_loss` and `reduction`, has its options as fields, and
    writes `_member_scores`: one row for each member (layer that makes the channels, BatchNorm, or feature map) of
    each group. How the members' numbers are combined, and how groups are made comparable, are separate choices: see
    `pruners.importance.reduce` and `pruners.importance.normalise`.

    Raises
    ------
    ValidationError
        An unknown or illegal option.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ClassVar[str]
    paper: ClassVar[str]
    needs_data: ClassVar[bool] = False
    needs_loss: ClassVar[bool] = False
    reduction: ClassVar[Reduction] = "mean"
    """How several members are combined unless the user says otherwise."""

    def lacks(self, evidence: Evidence, group: ChannelGroup) -> str:
        """Return what a group lacks for its units to be scored ("has no filters ..."); empty if it lacks nothing."""
        del evidence, group
        return ""

    @final
    def unrankable(self, model: nn.Module, graph: Graph) -> dict[str, str]:
        """Return which prunable groups cannot be scored, and why."""
        evidence = Evidence(model=model, graph=graph, groups=())
        lacking = {group.name: self.lacks(evidence, group) for group in graph.groups if group.prunable}
        return {name: f"{self.name} cannot rank it: it {lack}" for name, lack in lacking.items() if lack}

    @final
    def member_scores(self, evidence: Evidence) -> MemberScores:
        """Score each unit of each group by each of its members.

        Returns
        -------
        dict of str to tuple of rows
            ``scores[group][member][unit]``; None where a unit has no channel in a member.

        Raises
        ------
        MethodError
            The criterion needs batches or a loss that are missing, does not apply to a group, or a score is not
            finite.
        """
        if self.needs_data and not evidence.batches:
            raise MethodError(f"{self.name}: there are no batches to score on")
        if self.needs_loss and evidence.loss is None:
            raise MethodError(f"{self.name}: there is no loss to differentiate; hand one in")
        for group in evidence.channel_groups:
            if lack := self.lacks(evidence, group):
                raise MethodError(f"{self.name}: group {group.name!r} {lack}; exclude it or take another criterion")
        scores = self._member_scores(evidence)
        for name, rows in scores.items():
            for row in rows:
                require_finite({name: tuple(0.0 if value is None else value for value in row)}, self.name)
        return scores

    @final
    def scores(self, evidence: Evidence, reduction: Reduction | None = None) -> Scores:
        """Score each unit of each group: its members' numbers, reduced.

        Raises
        ------
        MethodError
            As `member_scores`.
        """
        return reduce_members(self.member_scores(evidence), reduction or self.reduction)

    @abstractmethod
    def _member_scores(self, evidence: Evidence) -> MemberScores:
        """Compute the rows; batches and loss are present if the class says that it needs them."""
