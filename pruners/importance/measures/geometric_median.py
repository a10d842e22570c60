"""FPGM: distance of a filter from all others in its layer (He et al. 2019)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from pruners.groups import ChannelGroup, Member
from pruners.importance.evidence import Evidence
from pruners.importance.measures.weights import FilterCriterion, filter_members, lacks_filters
from pruners.importance.reduce import MemberScores
from pruners.modules.precision import comparable

__all__ = ["GeometricMedian"]


class GeometricMedian(FilterCriterion):
    """Sum of the Euclidean distances of a filter to all filters of its layer.

    The filter with the smallest sum is nearest to the layer's geometric median: the others can replace it, so it goes
    first, however large it is.

    References
    ----------
    He, Liu, Wang, Hu, Yang, "Filter Pruning via Geometric Median for Deep Convolutional Neural Networks Acceleration",
    CVPR 2019, arXiv:1811.00250, section 3.3 (equation 8).
    """

    name: ClassVar[str] = "fpgm"
    paper: ClassVar[str] = "He et al., Filter Pruning via Geometric Median, CVPR 2019, arXiv:1811.00250"

    def _member_scores(self, evidence: Evidence) -> MemberScores:
        weights = evidence.weights
        return {
            group.name: tuple(
                self._distances(member, weight) for member, weight in filter_members(group, weights, self.name)
            )
            for group in evidence.channel_groups
        }

    def lacks(self, evidence: Evidence, group: ChannelGroup) -> str:
        """Return that units have no filters, or filters of different widths; empty if neither."""
        weights = dict(evidence.model.named_parameters())
        if lack := lacks_filters(group, weights):
            return lack
        for member, _ in filter_members(group, weights, self.name):
            widths = {len(unit) for unit in member.indices if unit}
            if len(widths) > 1:
                return f"has units of {sorted(widths)} channels in {member.path!r}, whose distances have no meaning"
        return ""

    def _distances(self, member: Member, weight: Tensor) -> tuple[float | None, ...]:
        there = [bool(unit) for unit in member.indices]
        positions = torch.tensor([position for unit in member.indices for position in unit], device=weight.device)
        filters = comparable(weight.detach()).movedim(member.axis, 0).index_select(0, positions)
        per_unit = filters.reshape(sum(there), -1)
        # Not by matrix products: they lose half of the digits if filters are similar.
        apart = torch.cdist(per_unit, per_unit, compute_mode="donot_use_mm_for_euclid_dist")
        scores = iter(apart.sum(1).tolist())
        return tuple(next(scores) if one else None for one in there)
