"""Criteria on BatchNorm: its scale (Liu et al. 2017), and a gate on scale and shift (Molchanov et al. 2019)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pruners.groups import ChannelGroup, Member
from pruners.importance.criterion import Criterion
from pruners.importance.evidence import Evidence
from pruners.importance.parameters import substituted
from pruners.importance.reduce import MemberScores, Reduction
from pruners.importance.sums import Sums
from pruners.importance.units import unit_sums

__all__ = ["BatchNormScale", "TaylorBatchNorm"]


class _NormCriterion(Criterion):
    def lacks(self, evidence: Evidence, group: ChannelGroup) -> str:
        """Return that some units of a group have no BatchNorm with a scale; empty if all have one."""
        scales = _scales(evidence.model, group)
        if all(any(member.indices[unit] for member in scales) for unit in range(group.n_units)):
            return ""
        return f"has {'units without' if scales else 'no'} BatchNorm with a scale"


class BatchNormScale(_NormCriterion):
    """Absolute scale of the BatchNorm on a unit's channels, ``|gamma|``; the mean where a unit has several channels.

    Meaningful after training with an L1 penalty on the scales, as in the paper.

    References
    ----------
    Liu, Li, Shen, Huang, Yan, Zhang, "Learning Efficient Convolutional Networks through Network Slimming", ICCV 2017,
    arXiv:1708.06519, section 3.
    """

    name: ClassVar[str] = "bn_scale"
    paper: ClassVar[str] = "Liu et al., Network Slimming, ICCV 2017, arXiv:1708.06519"

    def _member_scores(self, evidence: Evidence) -> MemberScores:
        scores: MemberScores = {}
        for group in evidence.channel_groups:
            rows = []
            for member in _scales(evidence.model, group):
                scale = evidence.model.get_parameter(member.path).detach().to("cpu", torch.float64).abs()
                if member.path.endswith("_orig"):  # masked by torch.nn.utils.prune
                    scale = scale * evidence.model.get_buffer(f"{member.path.removesuffix('_orig')}_mask").cpu()
                sums = unit_sums(scale, member.indices).tolist()
                rows.append(
                    tuple(value / len(unit) if unit else None for value, unit in zip(sums, member.indices, strict=True))
                )
            scores[group.name] = tuple(rows)
        return scores


class TaylorBatchNorm(_NormCriterion):
    """Taylor-FO-BN: squared first-order change of the loss as BatchNorm's scale and shift go to zero.

    ``(gamma * dE/dgamma + beta * dE/dbeta)^2``, which is the squared slope of a gate right after the BatchNorm. ``E``
    is the mean loss of a batch in evaluation mode, and the squares are averaged over the batches (weighted by their
    examples), so the batch size is part of the criterion. The BatchNorms of a unit share one gate (the joint group
    importance of section 3): the sum is taken before the square. With ``joint=False`` each has its own row.
    The paper puts gates after the additions of a residual stage; here the stage's BatchNorms, before the additions,
    share one gate, which is the same factor on all summands.

    References
    ----------
    Molchanov, Mallya, Tyree, Frosio, Kautz, "Importance Estimation for Neural Network Pruning", CVPR 2019,
    arXiv:1906.10771, sections 3 (equations 5 to 8) and 4.
    """

    name: ClassVar[str] = "taylor_fo_bn"
    paper: ClassVar[str] = (
        "Molchanov et al., Importance Estimation for Neural Network Pruning, CVPR 2019, arXiv:1906.10771"
    )
    needs_data: ClassVar[bool] = True
    needs_loss: ClassVar[bool] = True
    reduction: ClassVar[Reduction] = "sum"

    joint: bool = Field(True, description="one gate on all BatchNorms of a unit; else a row for each")

    def _member_scores(self, evidence: Evidence) -> MemberScores:
        loss = evidence.loss
        assert loss is not None, "the base class checked it"
        members = {group.name: _scales(evidence.model, group) for group in evidence.channel_groups}
        named = dict(evidence.model.named_parameters())
        paths = [path for own in members.values() for m in own for path in (m.path, _shift(m.path)) if path in named]
        sums = Sums(self.name)
        for inputs, labels in evidence.pieces(self.name):
            network = substituted(evidence, list(dict.fromkeys(paths)))
            with torch.enable_grad():
                slopes = network.slopes(loss(network.run(inputs), labels))
            products = {path: slope.double() * named[path].detach().double() for path, slope in slopes.items()}
            per_group = [self._squares(own, products) for own in members.values()]
            sums.add([squares * len(inputs) for squares in per_group], len(inputs))
        scores: MemberScores = {}
        for (name, own), values in zip(members.items(), sums.means(), strict=True):
            there = [[bool(unit) for unit in member.indices] for member in own]
            if self.joint:
                there = [[any(units) for units in zip(*there, strict=True)]]
            scores[name] = tuple(
                tuple(value if one else None for value, one in zip(row, present, strict=True))
                for row, present in zip(values.tolist(), there, strict=True)
            )
        return scores

    def _squares(self, members: list[Member], products: Mapping[str, Tensor]) -> Tensor:
        """Return shape (rows, n_units)."""
        slopes = []
        for member in members:
            both = products[member.path]
            if _shift(member.path) in products:
                both = both + products[_shift(member.path)]
            slopes.append(unit_sums(both, member.indices))
        rows = torch.stack(slopes)
        return (rows.sum(0, keepdim=True) if self.joint else rows).square()


def _scales(model: nn.Module, group: ChannelGroup) -> list[Member]:
    """Return the members that are the scale of a BatchNorm."""
    members = []
    for member in group.members:
        path, _, attribute = member.path.rpartition(".")
        if attribute in ("weight", "weight_orig") and isinstance(model.get_submodule(path), _BatchNorm):
            members.append(member)
    return members


def _shift(scale: str) -> str:
    return f"{scale.removesuffix('_orig').removesuffix('weight')}bias"
