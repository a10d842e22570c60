"""L1 norm of the filters that make a group's channels (Li et al. 2017)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from pruners.errors import MethodError
from pruners.groups import ChannelGroup
from pruners.importance.scores import Scores, require_finite
from pruners.importance.units import unit_sums

__all__ = ["l1_norms"]


def l1_norms(model: nn.Module, groups: Iterable[ChannelGroup]) -> Scores:
    """Return ``s[j] = sum |F[j]|`` for each unit ``j`` of each group.

    ``F[j]`` are all kernel weights that make the channels of unit ``j``, those of a depthwise convolution on them
    included; biases and BatchNorm do not count.

    Where several layers make the same channels (the residual stages, tied by their additions) the norms of all of
    them are **summed**: the unit is removed from each, so each has a say. Li et al. let the projection shortcut
    alone rank the second convolutions of a stage; a network with identity shortcuts has no such layer, and a sum
    treats both kinds alike.

    Parameters
    ----------
    model : Module
        Holds the parameters that the members of `groups` name.
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
    tensors = dict(model.named_parameters())
    return _checked({group.name: _norms(group, tensors) for group in groups})


def _checked(scores: Scores) -> Scores:
    require_finite(scores, "l1")
    return scores


def _norms(group: ChannelGroup, tensors: Mapping[str, Tensor]) -> tuple[float, ...]:
    total = torch.zeros(group.n_units, dtype=torch.float64)
    n_filters = 0
    for member in group.members:
        weight = tensors.get(member.path)
        if not member.produces or weight is None or weight.ndim < 2:
            continue
        per_position = weight.detach().to("cpu", torch.float64).abs().movedim(member.axis, -1)
        total += unit_sums(per_position.flatten(0, -2).sum(0), member.indices)
        n_filters += 1
    if not n_filters:
        raise MethodError(f"l1: group {group.name!r} has no filters whose norm could rank its units; exclude it")
    return tuple(total.tolist())
