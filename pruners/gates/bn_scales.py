"""Sparsity of BatchNorm scales: an L1 penalty on the scales of prunable units, and their magnitudes as scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

from pruners.channels.propagation import operator_name
from pruners.errors import MethodError
from pruners.gates.gate import Gate
from pruners.groups import Member
from pruners.importance.reduce import Reduction, reduce_members
from pruners.importance.scores import Scores

if TYPE_CHECKING:
    from pruners.graph import Graph

__all__ = ["BatchNormScales", "scale_members", "scale_scores"]

_BATCH_NORMS = ("batch_norm", "_native_batch_norm_legit_no_training", "cudnn_batch_norm")


class BatchNormScales(Gate):
    """BatchNorm scales as the gates of the units.

    Training minimises ``loss + strength * sum |gamma|``: the subgradient ``strength * sign(gamma)`` is added to the
    gradient of each scale after the backward pass. The optimizer then minimises the penalised loss, while the reported
    loss is the plain one. Only the scales of the given groups are penalised; in a BatchNorm after a concatenation, only
    those at their positions.

    The scales are the network's own parameters and train with it, weight decay included (as in the released code), so
    there is nothing to fold; a nonzero shift reaches the next layer only through the units that are kept.

    Parameters
    ----------
    network : Module
        The traced network or a copy of it; modified in place.
    graph : Graph
        Its trace.
    groups : sequence of str, optional
        Names of groups; default: all prunable ones. Those without a trainable BatchNorm scale are left out, see
        `without`.
    strength : float
        lambda of the paper: 1e-4 for VGG, 1e-5 for ResNet-164 and DenseNet-40.
    initial : float, optional
        Value given to every BatchNorm scale of the network (the paper: 0.5), before training from scratch.
    reduction : {"mean", "sum", "max"}
        Over the BatchNorms of a unit.

    Raises
    ------
    MethodError
        No group has a BatchNorm, or the network has a gate already.

    Examples
    --------
    In your own training loop::

        graph = trace(network, example_inputs)
        gate = BatchNormScales(network, graph, strength=1e-4)
        optimizer = SGD(gate.parameter_groups(network, weight_decay=1e-4), lr=0.1, momentum=0.9)
        for images, labels in batches:
            optimizer.zero_grad()
            cross_entropy(network(images), labels).backward()
            gate.before_step(lr=0.1)
            optimizer.step()
        scores = gate.scores()  # |gamma|; decide, plan, and cut as with any other scores
        gate.fold()

    References
    ----------
    Liu, Li, Shen, Huang, Yan, Zhang, "Learning Efficient Convolutional Networks through Network Slimming", ICCV 2017,
    arXiv:1708.06519, section 3.
    """

    def __init__(
        self,
        network: nn.Module,
        graph: Graph,
        groups: Sequence[str] | None = None,
        *,
        strength: float,
        initial: float | None = None,
        reduction: Reduction = "mean",
    ) -> None:
        wanted = [g.name for g in graph.groups if g.prunable] if groups is None else list(groups)
        members_of = {name: scale_members(network, graph, name) for name in wanted}
        if not any(members_of.values()):
            raise MethodError(
                "none of the layers that may be pruned has a BatchNorm with a trainable scale to rank its channels by: "
                f"{', '.join(wanted)}; add BatchNorms or take another method"
            )
        super().__init__(network)
        self.strength = strength
        self.reduction = reduction
        self.without = tuple(name for name, members in members_of.items() if not members)
        self._members = {name: members for name, members in members_of.items() if members}
        # In plain containers: they are the network's own parameters and modules, not the gate's.
        self._home = (network,)
        self._scales = {m.path: network.get_parameter(m.path) for own in self._members.values() for m in own}
        for number, (path, scale) in enumerate(self._scales.items()):
            penalised = torch.zeros_like(scale, requires_grad=False)
            for member in (m for own in self._members.values() for m in own if m.path == path):
                penalised[[position for unit in member.indices for position in unit]] = 1.0
            self.register_buffer(f"penalised_{number}", penalised, persistent=False)
        if initial is not None:
            with torch.no_grad():
                for path in _scale_paths(graph):
                    network.get_parameter(path).fill_(initial)

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the groups that have a BatchNorm."""
        return tuple(self._members)

    def before_step(self, lr: float) -> None:  # noqa: ARG002
        """Add the subgradient of the penalty to the gradients of the scales."""
        with torch.no_grad():
            for number, scale in enumerate(self._scales.values()):
                if scale.grad is not None:
                    scale.grad.add_(self.strength * self.get_buffer(f"penalised_{number}") * scale.sign())

    def scores(self) -> Scores:
        """Return ``|gamma|`` of each unit: the mean over its channels, reduced over its BatchNorms."""
        return scale_scores(self._home[0], self._members, self.reduction)

    def fold(self) -> None:
        """Detach from the network; there is nothing to fold."""
        self.detach_from(self._home[0])


def scale_members(network: nn.Module, graph: Graph, group: str) -> tuple[Member, ...]:
    """Return the members of a group that are trainable BatchNorm scales."""
    scales = _scale_paths(graph)
    return tuple(
        member
        for member in graph.group(group).members
        if member.path in scales and network.get_parameter(member.path).requires_grad
    )


def scale_scores(network: nn.Module, members: Mapping[str, Sequence[Member]], reduction: Reduction) -> Scores:
    """Return ``|gamma|`` of each unit: the mean over its channels, reduced over its BatchNorms.

    Parameters
    ----------
    network : Module
        Network that holds the scales.
    members : Mapping of str to sequence of Member
        What `scale_members` returns for each group.
    reduction : {"mean", "sum", "max"}
        Over the members.
    """
    rows = {}
    for name, own in members.items():
        scales = [network.get_parameter(member.path).detach().double().abs().tolist() for member in own]
        rows[name] = [
            [sum(scale[p] for p in unit) / len(unit) for unit in member.indices]
            for scale, member in zip(scales, own, strict=True)
        ]
    return reduce_members(rows, reduction)


def _scale_paths(graph: Graph) -> dict[str, None]:
    """Return the names of all BatchNorm scale parameters, whichever module calls the BatchNorm."""
    names: dict[str, None] = {}
    for node in graph.module.graph.nodes:
        if operator_name(node.target) in _BATCH_NORMS and len(node.args) > 1:
            name = graph.program.tensors.get(str(getattr(node.args[1], "target", "")))
            if name is not None:
                names[name] = None
    return names
