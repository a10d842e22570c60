"""Criteria on the values of feature maps: their mean, their spread, and how often they are zero."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, ClassVar, final

import torch
from torch import Tensor

from pruners.errors import MethodError
from pruners.importance.evidence import Evidence
from pruners.importance.gates import GateRow, MapCriterion, gate_rows, member_scores_of
from pruners.importance.reduce import MemberScores
from pruners.importance.sums import Sums
from pruners.importance.units import unit_sums

if TYPE_CHECKING:
    from pruners.channels.sites import Site

__all__ = ["ActivationMean", "ActivationStd", "NonZeros", "feature_maps", "means_per_example"]

_TAYLOR = (
    "Molchanov et al., Pruning Convolutional Neural Networks for Resource Efficient Inference, ICLR 2017, "
    "arXiv:1611.06440"
)


class _Activation(MapCriterion):
    """Averages functions of the maps' single values over examples, positions and a unit's channels."""

    needs_data: ClassVar[bool] = True

    @final
    def _member_scores(self, evidence: Evidence) -> MemberScores:
        rows = gate_rows(evidence.graph, evidence.groups, self.name, joint=False)
        sums = Sums(self.name)
        for maps, _ in feature_maps(evidence, rows, self.name):
            moments = [
                means_per_example(moment, row.sites[0]).sum(0)
                for value, row in zip(maps, rows, strict=True)
                for moment in self._moments(value)
            ]
            sums.add(moments, len(maps[0]))
        means = sums.means()
        n_moments = len(means) // len(rows)
        scores = member_scores_of(
            rows, [self._score(means[start : start + n_moments]) for start in range(0, len(means), n_moments)]
        )
        self._check(scores)
        return scores

    def _check(self, scores: MemberScores) -> None:
        """Refuse groups that the criterion does not apply to."""

    @abstractmethod
    def _moments(self, value: Tensor) -> list[Tensor]:
        """Return what is averaged: functions of the single values of a map."""

    @abstractmethod
    def _score(self, means: Sequence[Tensor]) -> Tensor:
        """Return scores of shape (n_units,) from the moments' means of that shape."""


class ActivationMean(_Activation):
    """Mean of a feature map over its positions and all examples: ``(1/|a|) * sum a``.

    The map is the one that `Graph.sites` names: after the activation function, if there is one.

    References
    ----------
    Molchanov et al., ICLR 2017, arXiv:1611.06440, section 2.2 (activation).
    """

    name: ClassVar[str] = "activation_mean"
    paper: ClassVar[str] = _TAYLOR

    def _moments(self, value: Tensor) -> list[Tensor]:
        return [value]

    def _score(self, means: Sequence[Tensor]) -> Tensor:
        return means[0]


class ActivationStd(_Activation):
    """Standard deviation of a feature map over its positions and all examples: ``sqrt((1/|a|) * sum (a - mean)^2)``.

    References
    ----------
    Molchanov et al., ICLR 2017, arXiv:1611.06440, section 2.2 (activation).
    """

    name: ClassVar[str] = "activation_std"
    paper: ClassVar[str] = _TAYLOR

    def _moments(self, value: Tensor) -> list[Tensor]:
        wide = value.double()  # the difference of the moments loses the digits that they share
        return [wide, wide.square()]

    def _score(self, means: Sequence[Tensor]) -> Tensor:
        return (means[1] - means[0].square()).clamp_min(0).sqrt()


class NonZeros(_Activation):
    """One minus the average percentage of zeros: the share of a map's values that are not zero.

    A map that is mostly zero (high APoZ) is unimportant. The criterion needs maps after a ReLU: a group whose maps have
    not a single zero, as after a smooth activation function, is refused.

    References
    ----------
    Hu, Peng, Tai, Tang, "Network Trimming: A Data-Driven Neuron Pruning Approach towards Efficient Deep
    Architectures", 2016, arXiv:1607.03250, section 2.1; ranked this way in Molchanov et al., ICLR 2017, section 3.
    """

    name: ClassVar[str] = "apoz"
    paper: ClassVar[str] = "Hu et al., Network Trimming, 2016, arXiv:1607.03250"

    def _check(self, scores: MemberScores) -> None:
        for group, rows in scores.items():
            if all(value is None or value == 1 for row in rows for value in row):
                raise MethodError(
                    f"{self.name}: no map of group {group!r} has a single zero, so there is no ReLU to count zeros of; "
                    "exclude the group or take another criterion"
                )

    def _moments(self, value: Tensor) -> list[Tensor]:
        return [torch.where(value.isfinite(), (value != 0).to(value.dtype), torch.nan)]

    def _score(self, means: Sequence[Tensor]) -> Tensor:
        return means[0]


def feature_maps(evidence: Evidence, rows: Sequence[GateRow], who: str) -> Iterator[tuple[list[Tensor], Tensor]]:
    """Run the batches, and yield the map of each row (of one site) and the labels.

    Yields
    ------
    maps : list of Tensor
        The first axis is the batch; float32, or float64 in a float64 network.
    labels : Tensor
        On the maps' device.

    Raises
    ------
    MethodError
        A feature map has no axis of the batch's size.
    """
    sites = {row.sites[0].node: row.sites[0] for row in rows}
    for inputs, labels in evidence.pieces(who):
        seen: dict[str, Tensor] = {}
        with torch.no_grad():
            evidence.graph.run(
                (inputs,), {node: partial(_see, seen, site, len(inputs), who) for node, site in sites.items()}
            )
        yield [seen[row.sites[0].node] for row in rows], labels


def _see(seen: dict[str, Tensor], site: Site, n_examples: int, who: str, value: Tensor) -> Tensor:
    behind = value.movedim(site.examples, 0)
    if len(behind) != n_examples:
        raise MethodError(
            f"{who}: the first axis of the feature map {site.node!r} has {len(behind)} entries for {n_examples} "
            "examples; exclude the layers that make it"
        )
    seen[site.node] = behind if behind.dtype == torch.float64 else behind.float()
    return value


def means_per_example(value: Tensor, site: Site) -> Tensor:
    """Average a map over positions and a unit's channels: Tensor of shape (batch, n_units), float64."""
    per_channel = value.movedim(site.axis_behind_examples, 1).flatten(2) if value.ndim > 2 else value.unsqueeze(-1)
    sums = unit_sums(per_channel.mean(2, dtype=torch.float64), site.indices)
    n_channels = torch.tensor([max(1, len(unit)) for unit in site.indices], device=sums.device)
    return sums / n_channels
