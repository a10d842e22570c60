"""L1 norm of the filters that make a group's channels (Li et al. 2017), as a function of weights and groups alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from pruners.groups import ChannelGroup
from pruners.importance.measures.weights import L1Norm, per_filter
from pruners.importance.reduce import reduce_members
from pruners.importance.scores import Scores, require_finite

__all__ = ["l1_norms"]


def l1_norms(weights: Mapping[str, Tensor], groups: Iterable[ChannelGroup]) -> Scores:
    """Return ``s[j] = sum |F[j]|`` for each unit ``j`` of each group.

    ``F[j]`` are all kernel weights that make the channels of unit ``j``, including those of a depthwise convolution on
    them; biases and BatchNorm do not count.

    If several layers make the same channels (residual stages, tied by their additions), the norms of all of them are
    **summed**: the unit is removed from each, so each counts. Li et al. let the projection shortcut alone rank the
    second convolutions of a stage; a network with identity shortcuts has no such layer, and a sum treats both kinds
    alike.

    Parameters
    ----------
    weights : Mapping of str to Tensor
        Weights by the names of the members of `groups`, as from `pruners.graph.Graph.weights`.
    groups : iterable of ChannelGroup
        The groups to score.

    Raises
    ------
    MethodError
        A group has no filter (its channels come from a parameter of one axis), or a weight is not finite.

    References
    ----------
    Li, Kadav, Durdanovic, Samet, Graf, "Pruning Filters for Efficient ConvNets", ICLR 2017, arXiv:1608.08710,
    section 3.1.
    """
    members = per_filter(weights, groups, L1Norm.name, torch.abs, lambda total, _: total)
    scores = reduce_members(members, L1Norm.reduction)
    require_finite(scores, L1Norm.name)
    return scores
