"""Mutual information of a unit's activation and the label, both quantised (Molchanov et al. 2017)."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from pruners.distributed import largest, total
from pruners.errors import MethodError
from pruners.importance.evidence import Evidence
from pruners.importance.gates import MapCriterion, gate_rows, member_scores_of
from pruners.importance.measures.activations import feature_maps, means_per_example
from pruners.importance.reduce import MemberScores

__all__ = ["MutualInformation", "information_gain"]


class MutualInformation(MapCriterion):
    """Information gain ``IG(y|x) = H(x) + H(y) - H(x, y)`` of the activation ``x`` about the label ``y``, in nats.

    ``x`` is a map's mean over its positions, one number for each example. As in the paper, statistics are first
    gathered over all examples and then quantised: here into `bins` of equal width between a unit's smallest and largest
    value (the paper does not say how many). A constant unit carries no information and scores 0.

    The estimate is biased upwards by about ``(bins - 1) * (classes - 1) / (2 * examples)``: the same for all units, and
    small with many examples.

    References
    ----------
    Molchanov, Tyree, Karras, Aila, Kautz, "Pruning Convolutional Neural Networks for Resource Efficient Inference",
    ICLR 2017, arXiv:1611.06440, section 2.2 (mutual information).
    """

    name: ClassVar[str] = "mutual_information"
    paper: ClassVar[str] = (
        "Molchanov et al., Pruning Convolutional Neural Networks for Resource Efficient Inference, ICLR 2017, "
        "arXiv:1611.06440"
    )
    needs_data: ClassVar[bool] = True

    bins: int = Field(16, ge=2, description="levels that activations are quantised to")

    def _member_scores(self, evidence: Evidence) -> MemberScores:
        rows = gate_rows(evidence.graph, evidence.groups, self.name, joint=False)
        gathered: list[list[Tensor]] = [[] for _ in rows]
        classes: list[Tensor] = []
        for maps, labels in feature_maps(evidence, rows, self.name):
            if labels.ndim != 1 or labels.dtype.is_floating_point or (labels < 0).any():
                raise MethodError(
                    f"{self.name}: labels have to be classes, one integer from 0 for each example; got "
                    f"{labels.dtype} of shape {tuple(labels.shape)}"
                )
            classes.append(labels.cpu().long())
            for own, value, row in zip(gathered, maps, rows, strict=True):
                own.append(means_per_example(value, row.sites[0]).cpu())
        labels = torch.cat(classes)
        n_classes = int(largest(labels.max() + 1))
        return member_scores_of(
            rows, [information_gain(torch.cat(own), labels, n_classes, self.bins) for own in gathered]
        )


def information_gain(values: Tensor, labels: Tensor, n_classes: int, bins: int) -> Tensor:
    """Return ``H(x) + H(y) - H(x, y)`` of each column, over the examples of all processes.

    Parameters
    ----------
    values : Tensor of shape (examples, units)
    labels : Tensor of shape (examples,)
        Integers below `n_classes`.
    n_classes, bins : int
        Number of levels of the label and of the value.

    Returns
    -------
    Tensor of shape (units,), float64
        In nats; NaN for a unit whose values are not finite.
    """
    n_units = values.shape[1]
    high, low = largest(values.amax(0)), -largest(-values.amin(0))
    width = (high - low).clamp_min(torch.finfo(values.dtype).tiny)
    level = ((values - low) / width * bins).nan_to_num(0).long().clamp(0, bins - 1)
    cell = (torch.arange(n_units) * bins + level) * n_classes + labels[:, None]
    counts = torch.bincount(cell.flatten(), minlength=n_units * bins * n_classes)
    joint = total(counts.reshape(n_units, bins, n_classes)).double()
    joint = joint / joint.sum((1, 2), keepdim=True)
    gain = _entropy(joint.sum(2)) + _entropy(joint.sum(1)) - _entropy(joint.flatten(1))
    return torch.where((high - low).isfinite(), gain.clamp_min(0), torch.nan)


def _entropy(shares: Tensor) -> Tensor:
    return -torch.xlogy(shares, shares).sum(1)
