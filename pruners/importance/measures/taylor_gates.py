"""Squared loss change of a gate on each unit, to first and second order (Molchanov et al. 2019)."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from pruners.importance.evidence import Evidence
from pruners.importance.gates import (
    Gates,
    MapCriterion,
    draw_signs,
    gate_rows,
    member_scores_of,
    opened,
    twice_differentiable,
)
from pruners.importance.reduce import MemberScores, Reduction
from pruners.importance.sums import Sums

__all__ = ["HessianDiagonal", "TaylorFirstOrder", "TaylorSecondOrder", "gate_curvature"]

_PAPER = "Molchanov et al., Importance Estimation for Neural Network Pruning, CVPR 2019, arXiv:1906.10771"


class TaylorFirstOrder(MapCriterion):
    """Squared first-order change of the loss, by a gate on each unit's feature maps: ``(dE/dgamma)^2`` at gamma = 1.

    The paper's gate version for networks of any kind: the gate sits at the end of the element-wise chain of each
    layer that makes the channels (see `Graph.sites`). After a BatchNorm and a ReLU its slope equals that of a gate
    right after the BatchNorm, which is `taylor_fo_bn`.

    As in the paper's own runs, ``E`` is the mean loss of a batch, so the batch size is part of the criterion, and the
    squares are averaged over the batches (weighted by their examples). With ``per_example=True`` each example's slope
    is squared instead. One gate acts on all maps of a unit (the joint group importance of section 3), or with
    ``joint=False`` one on each. The paper uses no normalisation per layer.

    References
    ----------
    Molchanov, Mallya, Tyree, Frosio, Kautz, "Importance Estimation for Neural Network Pruning", CVPR 2019,
    arXiv:1906.10771, section 3 (equations 5 to 8; gates).
    """

    name: ClassVar[str] = "taylor_fo"
    paper: ClassVar[str] = _PAPER
    needs_data: ClassVar[bool] = True
    needs_loss: ClassVar[bool] = True
    reduction: ClassVar[Reduction] = "sum"

    joint: bool = Field(True, description="one gate on all maps of a unit; else a row for each map")
    per_example: bool = Field(False, description="square each example's slope, not that of the batch's mean loss")

    def _member_scores(self, evidence: Evidence) -> MemberScores:
        assert evidence.loss is not None, "the base class checked it"
        rows = gate_rows(evidence.graph, evidence.groups, self.name, joint=self.joint)
        sums = Sums(self.name)
        for inputs, labels in evidence.pieces(self.name):
            gates = opened(evidence.graph, inputs, labels, evidence.loss, rows, self.name)
            slopes = gates.by_row(gates.slopes())
            if self.per_example:
                sums.add([slope.square().sum(0) for slope in slopes], len(inputs))
            else:
                sums.add([slope.mean(0).square() * len(inputs) for slope in slopes], len(inputs))
        return member_scores_of(rows, sums.means())


class TaylorSecondOrder(MapCriterion):
    """Squared second-order change of the loss by a gate: ``(-dE/dgamma + 1/2 d2E/dgamma2)^2`` at gamma = 1.

    The form with the Hessian's diagonal. The diagonal is estimated with random signs (see `gate_curvature`), drawn
    separately for each example; slope and curvature are those of a batch's mean loss, and squares are averaged over
    the batches. Placement and grouping of the gates are those of `taylor_fo`.

    References
    ----------
    Molchanov, Mallya, Tyree, Frosio, Kautz, "Importance Estimation for Neural Network Pruning", CVPR 2019,
    arXiv:1906.10771, section 3 (equation 4).
    """

    name: ClassVar[str] = "taylor_so"
    paper: ClassVar[str] = _PAPER
    needs_data: ClassVar[bool] = True
    needs_loss: ClassVar[bool] = True
    reduction: ClassVar[Reduction] = "sum"

    joint: bool = Field(True, description="one gate on all maps of a unit; else a row for each map")
    draws: PositiveInt = Field(10, description="random vectors for each batch")

    def _member_scores(self, evidence: Evidence) -> MemberScores:
        assert evidence.loss is not None, "the base class checked it"
        rows = gate_rows(evidence.graph, evidence.groups, self.name, joint=self.joint)
        generator = torch.Generator().manual_seed(evidence.seed)
        sums = Sums(self.name)
        with twice_differentiable():
            for inputs, labels in evidence.pieces(self.name):
                gates = opened(evidence.graph, inputs, labels, evidence.loss, rows, self.name)
                slopes, curvature = gate_curvature(gates, self.draws, generator)
                change = gates.by_row(curvature / 2 - slopes)
                sums.add([one.mean(0).square() * len(inputs) for one in change], len(inputs))
        return member_scores_of(rows, sums.means())


class HessianDiagonal(MapCriterion):
    """Second-order change of the loss by a gate on each unit's maps: ``1/2 d2C/dgamma2`` at gamma = 1.

    The diagonal term for removing a whole unit: Optimal Brain Damage's saliency with units in place of weights, so that
    it includes the joint effect of a unit's own weights (`obd` adds up single weights). It is signed: a negative term
    predicts a lower loss. The diagonal is estimated with random signs, see `gate_curvature`, and averaged over the
    examples.

    References
    ----------
    LeCun, Denker, Solla, "Optimal Brain Damage", NIPS 1989, section 2 (saliency).
    Bekas, Kokiopoulou, Saad, "An estimator for the diagonal of a matrix", Applied Numerical Mathematics 57, 2007.
    """

    name: ClassVar[str] = "hessian_diagonal"
    paper: ClassVar[str] = "LeCun et al., Optimal Brain Damage, NIPS 1989 (of units); Bekas et al. 2007 (its estimator)"
    needs_data: ClassVar[bool] = True
    needs_loss: ClassVar[bool] = True
    reduction: ClassVar[Reduction] = "sum"

    joint: bool = Field(True, description="one gate on all maps of a unit; else a row for each map")
    draws: PositiveInt = Field(10, description="random vectors for each batch")

    def _member_scores(self, evidence: Evidence) -> MemberScores:
        assert evidence.loss is not None, "the base class checked it"
        rows = gate_rows(evidence.graph, evidence.groups, self.name, joint=self.joint)
        generator = torch.Generator().manual_seed(evidence.seed)
        sums = Sums(self.name)
        with twice_differentiable():
            for inputs, labels in evidence.pieces(self.name):
                gates = opened(evidence.graph, inputs, labels, evidence.loss, rows, self.name)
                _, curvature = gate_curvature(gates, self.draws, generator)
                sums.add([one.sum(0) / 2 for one in gates.by_row(curvature)], len(inputs))
        return member_scores_of(rows, sums.means())


def gate_curvature(gates: Gates, draws: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return slope and estimated curvature of each example's loss with respect to each of its gates.

    ``diag(H) = E[v * (H v)]`` for random signs ``v`` (Hutchinson's estimator; Bekas et al. 2007). An example's loss
    depends on its own gates only, so one product with signs drawn for every example and gate gives an estimate for
    each example, and the noise averages out over the batch.

    Parameters
    ----------
    gates : Gates
        Run inside `twice_differentiable`.
    draws : int
        Number of random vectors to average over.
    generator : torch.Generator
        On the CPU.

    Returns
    -------
    slopes, curvature : Tensor of shape (batch, gates of all rows)
    """
    slopes = gates.slopes(create_graph=True)
    curvature = torch.zeros_like(slopes, dtype=torch.float64)
    if not slopes.requires_grad:  # the loss is linear in the gates
        return slopes.detach(), curvature
    for _ in range(draws):
        signs = draw_signs(slopes, generator)
        (product,) = torch.autograd.grad(
            slopes, [gates.leaf], signs, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        curvature += signs * product
    return slopes.detach(), curvature / draws
