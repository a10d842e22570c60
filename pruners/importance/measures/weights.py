"""Criteria on the magnitude of kernel weights alone: L1 norm, L2 norm and mean square of each filter."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import ClassVar

import torch
from torch import Tensor

from pruners.errors import MethodError
from pruners.groups import ChannelGroup, Member
from pruners.importance.criterion import Criterion
from pruners.importance.evidence import Evidence
from pruners.importance.reduce import MemberScores, Reduction
from pruners.importance.units import unit_sums

__all__ = ["FilterCriterion", "L1Norm", "L2Norm", "MinWeight", "filter_members", "lacks_filters", "per_filter"]


class FilterCriterion(Criterion):
    """A criterion on the filters that make a group's channels."""

    def lacks(self, evidence: Evidence, group: ChannelGroup) -> str:
        """Return that some units of a group have no filter (a one-axis parameter makes them); empty if all have one."""
        return lacks_filters(group, dict(evidence.model.named_parameters()))


class L1Norm(FilterCriterion):
    """L1 norm of each filter: ``sum |F|`` over the kernel weights that make a unit's channels.

    Biases and BatchNorm do not count. Li et al. let the projection shortcut alone rank the second convolutions of a
    residual stage; a network with identity shortcuts has no such layer, and the sum over the layers treats both
    kinds alike.

    References
    ----------
    Li, Kadav, Durdanovic, Samet, Graf, "Pruning Filters for Efficient ConvNets", ICLR 2017, arXiv:1608.08710,
    section 3.1.
    """

    name: ClassVar[str] = "l1"
    paper: ClassVar[str] = "Li et al., Pruning Filters for Efficient ConvNets, ICLR 2017, arXiv:1608.08710"
    reduction: ClassVar[Reduction] = "sum"

    def _member_scores(self, evidence: Evidence) -> MemberScores:
        return per_filter(evidence.weights, evidence.channel_groups, self.name, torch.abs, lambda total, _: total)


class L2Norm(FilterCriterion):
    """L2 norm of each filter: ``sqrt(sum F^2)`` over the kernel weights that make a unit's channels.

    References
    ----------
    He, Kang, Dong, Fu, Yang, "Soft Filter Pruning for Accelerating Deep Convolutional Neural Networks", IJCAI 2018,
    arXiv:1808.06866, section 3.2.
    """

    name: ClassVar[str] = "l2"
    paper: ClassVar[str] = "He et al., Soft Filter Pruning, IJCAI 2018, arXiv:1808.06866"
    reduction: ClassVar[Reduction] = "sum"

    def _member_scores(self, evidence: Evidence) -> MemberScores:
        return per_filter(
            evidence.weights, evidence.channel_groups, self.name, torch.square, lambda total, _: total.sqrt()
        )


class MinWeight(FilterCriterion):
    """Minimum weight: mean of the squares of a unit's kernel weights, ``(1/|w|) * sum w^2``.

    References
    ----------
    Molchanov, Tyree, Karras, Aila, Kautz, "Pruning Convolutional Neural Networks for Resource Efficient Inference",
    ICLR 2017, arXiv:1611.06440, section 2.2 (minimum weight).
    """

    name: ClassVar[str] = "min_weight"
    paper: ClassVar[str] = (
        "Molchanov et al., Pruning Convolutional Neural Networks for Resource Efficient Inference, ICLR 2017, "
        "arXiv:1611.06440"
    )

    def _member_scores(self, evidence: Evidence) -> MemberScores:
        return per_filter(
            evidence.weights, evidence.channel_groups, self.name, torch.square, lambda total, n: total / n
        )


def filter_members(group: ChannelGroup, tensors: Mapping[str, Tensor], who: str) -> list[tuple[Member, Tensor]]:
    """Return the members of a group that are kernels that make its channels, with their weights.

    Raises
    ------
    MethodError
        There are none: the channels come from a parameter of one axis.
    """
    if lack := lacks_filters(group, tensors):
        raise MethodError(f"{who}: group {group.name!r} {lack}; exclude it")
    return [(member, tensors[member.path]) for member in _filters(group, tensors)]


def lacks_filters(group: ChannelGroup, tensors: Mapping[str, Tensor]) -> str:
    """Return that some units of a group have no filter that could rank them; empty if all have one."""
    filters = _filters(group, tensors)
    if all(any(member.indices[unit] for member in filters) for unit in range(group.n_units)):
        return ""
    return f"has {'units without' if filters else 'no'} filters that could rank its units"


def _filters(group: ChannelGroup, tensors: Mapping[str, Tensor]) -> list[Member]:
    return [m for m in group.members if m.produces and m.path in tensors and tensors[m.path].ndim >= 2]


def per_filter(
    weights: Mapping[str, Tensor],
    groups: Iterable[ChannelGroup],
    who: str,
    each: Callable[[Tensor], Tensor],
    whole: Callable[[Tensor, Tensor], Tensor],
) -> MemberScores:
    """Sum a function of the individual kernel weights of each unit (of complex ones, their magnitude), in float64.

    Parameters
    ----------
    weights : Mapping of str to Tensor
        Weights by the members' names.
    groups : iterable of ChannelGroup
        The groups to score.
    who : str
        Names the criterion in messages.
    each : callable
        The function of a tensor of weights, element by element.
    whole : callable
        ``whole(sums, n_weights)`` -> scores; both of shape (n_units,).

    Raises
    ------
    MethodError
        A group has no filter.
    """
    by_group: MemberScores = {}
    for group in groups:
        rows = []
        for member, weight in filter_members(group, weights, who):
            numbers = weight.detach().abs() if weight.is_complex() else weight.detach()
            per_weight = each(numbers.to("cpu", torch.float64)).movedim(member.axis, -1)
            flat = per_weight.reshape(-1, per_weight.shape[-1])
            total = unit_sums(flat.sum(0), member.indices)
            n_weights = torch.tensor([len(flat) * len(unit) for unit in member.indices], dtype=torch.float64)
            scores = whole(total, n_weights)
            rows.append(tuple(s if n else None for s, n in zip(scores.tolist(), n_weights.tolist(), strict=True)))
        by_group[group.name] = tuple(rows)
    return by_group
