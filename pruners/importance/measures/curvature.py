"""Optimal Brain Damage: the Hessian's diagonal for single weights, estimated as in Molchanov et al."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from pruners.importance.evidence import Evidence
from pruners.importance.gates import draw_signs, twice_differentiable
from pruners.importance.measures.weights import FilterCriterion, filter_members, per_filter
from pruners.importance.parameters import substituted
from pruners.importance.reduce import MemberScores, Reduction
from pruners.importance.sums import Sums

__all__ = ["OptimalBrainDamage", "hessian_diagonals"]


class OptimalBrainDamage(FilterCriterion):
    """Sum of the saliencies ``1/2 * w^2 * H_ww`` of a unit's kernel weights.

    ``H_ww`` is the Hessian's diagonal of the mean loss over the examples, estimated as ``E[v * (H v)]`` with
    random signs ``v``: 10 draws for each batch, as in appendix A.6 of the Taylor paper before its first removal. (The
    paper continues with one draw per batch and a moving average of 0.99; a method that scores afresh before each
    removal has no such history.) The saliency is signed: curvature may be negative if training has not converged.

    References
    ----------
    LeCun, Denker, Solla, "Optimal Brain Damage", NIPS 1989, section 2.
    Molchanov, Tyree, Karras, Aila, Kautz, "Pruning Convolutional Neural Networks for Resource Efficient Inference",
    ICLR 2017, arXiv:1611.06440, section 2.2 and appendix A.6.
    """

    name: ClassVar[str] = "obd"
    paper: ClassVar[str] = (
        "LeCun et al., Optimal Brain Damage, NIPS 1989; estimated as in arXiv:1611.06440, appendix A.6"
    )
    needs_data: ClassVar[bool] = True
    needs_loss: ClassVar[bool] = True
    reduction: ClassVar[Reduction] = "sum"

    draws: PositiveInt = Field(10, description="random vectors for each batch")

    def _member_scores(self, evidence: Evidence) -> MemberScores:
        weights = dict(evidence.model.named_parameters())
        groups = evidence.channel_groups
        paths = dict.fromkeys(
            member.path for group in groups for member, _ in filter_members(group, weights, self.name)
        )
        diagonals = hessian_diagonals(evidence, list(paths), self.draws, self.name)
        saliencies = {path: weights[path].detach().cpu().double().square() * diagonals[path] / 2 for path in paths}
        return per_filter(saliencies, groups, self.name, lambda saliency: saliency, lambda total, _: total)


def hessian_diagonals(evidence: Evidence, paths: list[str], draws: int, who: str) -> dict[str, Tensor]:
    """Estimate the diagonal of the mean loss's Hessian with respect to the parameters called `paths`.

    Parameters
    ----------
    evidence : Evidence
        With batches and loss; the seed decides the random signs.
    paths : list of str
        Names of parameters.
    draws : int
        Vectors for each batch.
    who : str
        Names the criterion in messages.

    Returns
    -------
    dict of str to Tensor
        float64, on the CPU, in the parameters' shapes; averaged over all processes.
    """
    loss = evidence.loss
    assert loss is not None, "the criterion's base class checked it"
    generator = torch.Generator().manual_seed(evidence.seed)
    network = substituted(evidence, paths)
    leaves = list(network.leaves.values())
    sums = Sums(who)
    with torch.enable_grad(), twice_differentiable():
        for inputs, labels in evidence.pieces(who):
            slopes = list(network.slopes(loss(network.run(inputs), labels), create_graph=True).values())
            diagonals = [torch.zeros_like(leaf, dtype=torch.float64) for leaf in leaves]
            bent = [index for index, slope in enumerate(slopes) if slope.requires_grad]
            for _ in range(draws if bent else 0):
                signs = [draw_signs(leaf, generator) for leaf in leaves]
                products = torch.autograd.grad(
                    [slopes[index] for index in bent],
                    leaves,
                    [signs[index] for index in bent],
                    retain_graph=True,
                    allow_unused=True,
                    materialize_grads=True,
                )
                for diagonal, sign, product in zip(diagonals, signs, products, strict=True):
                    diagonal += sign * product
            sums.add([diagonal / draws * len(inputs) for diagonal in diagonals], len(inputs))
    return dict(zip(paths, sums.means(), strict=True))
