"""First-order Taylor criterion on feature maps (Molchanov et al. 2017, equation 8)."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from pruners.importance.evidence import Batch, Evidence, Loss, runnable
from pruners.importance.gates import GateRow, MapCriterion, gate_rows, member_scores_of, opened
from pruners.importance.reduce import MemberScores, Reduction
from pruners.importance.scores import Scores, require_finite
from pruners.importance.sums import Sums

if TYPE_CHECKING:
    from pruners.graph import Graph

__all__ = ["Taylor", "TaylorScores", "taylor_scores"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaylorScores:
    """Scores, and the examples they were computed on.

    Parameters
    ----------
    scores : dict of str to tuple of float
        One number per unit, not normalised.
    loss : float
        Mean loss of the examples.
    n_examples : int
        Number of examples.
    """

    scores: Scores
    loss: float
    n_examples: int


class Taylor(MapCriterion):
    """First-order Taylor expansion of the loss with respect to a feature map (equation 8); see `taylor_scores`.

    By default one gate acts on all maps of a unit, since they are removed together, and there is one row for each
    group; with ``joint=False`` each map has its own row, to be reduced.

    References
    ----------
    Molchanov, Tyree, Karras, Aila, Kautz, "Pruning Convolutional Neural Networks for Resource Efficient Inference",
    ICLR 2017, arXiv:1611.06440, section 2.2.
    """

    name: ClassVar[str] = "taylor"
    paper: ClassVar[str] = (
        "Molchanov et al., Pruning Convolutional Neural Networks for Resource Efficient Inference, ICLR 2017, "
        "arXiv:1611.06440"
    )
    needs_data: ClassVar[bool] = True
    needs_loss: ClassVar[bool] = True
    reduction: ClassVar[Reduction] = "sum"

    joint: bool = Field(True, description="one gate on all maps of a unit; else a row for each map")

    def _member_scores(self, evidence: Evidence) -> MemberScores:
        assert evidence.loss is not None, "the base class checked it"
        rows = gate_rows(evidence.graph, evidence.groups, self.name, joint=self.joint)
        means, _, _ = _mean_absolute(evidence.graph, evidence.batches, evidence.loss, rows)
        return member_scores_of(rows, means)


def taylor_scores(graph: Graph, batches: Iterable[Batch], loss: Loss, *, groups: Collection[str]) -> TaylorScores:
    """Score the units of `groups` on `batches`.

    For a feature map ``z`` of unit ``k``, with ``M`` spatial positions and per-example loss ``C_n``::

        score[k] = mean over examples n of | (1/M) * sum_m  dC_n/dz[n,k,m] * z[n,k,m] |

    in this order: mean over positions, absolute value, mean over examples. What the paper leaves open is settled as
    follows:

    * **Which map.** The end of the element-wise chain of each layer that makes the channels: after BatchNorm and
      activation, before pooling, as the paper's ``z = g * ReLU(w * x + b)``; see `Graph.sites`.
    * **Several maps of one unit** (the branches of a residual stage, before their additions; several channels of one
      unit): one gate acts on all of them, since they are removed together. The mean is over the positions of all maps,
      before the absolute value, so that it is the first-order change of the loss when the unit is removed, divided by
      ``M``.
    * **Per-example gradients.** `loss` is a mean over the batch; it is differentiated as a sum, so that batches of any
      size give the same score.
    * **Mode.** Evaluation mode: with batch statistics, one example's loss would depend on the others'.

    Parameters
    ----------
    graph : Graph
        Trace of the network in its present state.
    batches : iterable of (inputs, labels)
        Finite; inputs of shape (batch, ...). They are moved to the network's device.
    loss : callable
        ``loss(outputs, labels)`` -> scalar Tensor, averaged over the batch.
    groups : collection of str
        Names of the groups to score.

    Raises
    ------
    MethodError
        There are no batches, a group has no feature map with a batch axis, the network runs at one batch size only and
        a batch is not a multiple of it, or a score is not finite.
    """
    rows = gate_rows(graph, list(groups), Taylor.name, joint=True)
    means, mean_loss, n_examples = _mean_absolute(graph, batches, loss, rows)
    scores = {row.group: tuple(values.tolist()) for row, values in zip(rows, means, strict=True)}
    require_finite(scores, Taylor.name)
    return TaylorScores(scores=scores, loss=mean_loss, n_examples=n_examples)


def _mean_slopes(
    graph: Graph, inputs: Tensor, labels: Tensor, loss: Loss, rows: tuple[GateRow, ...]
) -> tuple[float, list[Tensor]]:
    gates = opened(graph, inputs, labels, loss, rows, Taylor.name)
    slopes = gates.by_row(gates.slopes())
    return gates.mean_loss, [slope / n for slope, n in zip(slopes, gates.positions, strict=True)]


def _mean_absolute(
    graph: Graph, batches: Iterable[Batch], loss: Loss, rows: tuple[GateRow, ...]
) -> tuple[list[Tensor], float, int]:
    """Return the scores of each row, the mean loss, and the number of examples, over all processes."""
    sums = Sums(Taylor.name)
    for inputs, labels in runnable(graph, batches, Taylor.name):
        mean_loss, slopes = _mean_slopes(graph, inputs, labels, loss, rows)
        loss_sum = torch.tensor([mean_loss * len(inputs)], dtype=torch.float64)
        sums.add([*(slope.abs().sum(0) for slope in slopes), loss_sum], len(inputs))
    *means, loss_mean = sums.means()
    return means, float(loss_mean), sums.n
