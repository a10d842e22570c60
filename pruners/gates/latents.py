"""DHP's gate: a latent for each unit, from which hypernetworks generate the weights of the network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from pruners.errors import MethodError
from pruners.gates.gate import Gate
from pruners.gates.hypernetwork import HyperNetwork, generate_weight, plain_weight

if TYPE_CHECKING:
    from pruners.decide.budget import Budget
    from pruners.graph import Graph
    from pruners.groups import ChannelGroup
    from pruners.importance.scores import Scores

__all__ = ["Latents"]


class Latents(Gate):
    """One latent per unit; the weights of convolutions and linear layers are generated from them (`HyperNetwork`).

    A unit's latent is used wherever its channels are: at the layer that produces them, at all layers of a residual sum,
    at its offset after a concatenation, at the H*W positions after a flatten, and at the layers that read them. Axes of
    channels that are not pruned have latents of their own. Biases and norms stay ordinary parameters. The generator of
    a weight has ``1 + 2*m + (m + 1)*K`` parameters for each pair of channels with K weights: with m = 8 that is 10.9
    times the weights of a 3x3 convolution, 26 times those of a 1x1.

    After each update at learning rate eta, a proximal step shrinks the latents,
    ``z <- sign(z) * max(|z| - eta*gamma, 0)``, except in groups with `min_survivors` or fewer latents of at least
    `threshold`.

    Parameters
    ----------
    network : Module
        Modified in place. Weights that are frozen, shared between layers or already parametrized are left alone.
    graph : Graph
        Its trace.
    groups : collection of str
        Groups that may lose units.
    budget : Budget, optional
        Training is `finished` when the units of at least `threshold` cost no more than its limit plus `stop_limit` of
        the dense cost; checked every `check_every` updates. Without a budget it never finishes.
    gamma : float
        Strength of the proximal step.
    threshold : float
        T: a latent below it counts as removed, except the `min_survivors` largest of its group.
    carried : bool
        Start from the network's weights, with latents of one, instead of drawing everything; see `HyperNetwork`.
    seed : int
        Seed of the random draws.

    Raises
    ------
    MethodError
        The network has a gate already, or no generated weight has the channels of a group.

    Examples
    --------
    In your own training loop::

        graph = trace(network, (images[:2],))
        choices, budget = goal_of(Target(of="flops", kept_fraction=0.5), Constraints(), graph)
        gate = Latents(network, graph, groups=choices.movable, budget=budget)
        optimizer = SGD(gate.parameter_groups(network, weight_decay=1e-4), lr=lr, momentum=0.9)
        while not gate.finished:
            optimizer.zero_grad()
            cross_entropy(network(images), labels).backward()
            optimizer.step()
            gate.after_step(lr)
        kept = top_units(gate.scores(), decide("global", choices, gate.scores(), budget))
        gate.fold()
    """

    owner: Tensor
    updates: Tensor
    done: Tensor

    def __init__(
        self,
        network: nn.Module,
        graph: Graph,
        *,
        groups: Collection[str],
        budget: Budget | None = None,
        gamma: float = 2e-4,
        threshold: float = 5e-3,
        stop_limit: float = 0.02,
        min_survivors: int = 4,
        check_every: int = 100,
        embedding: int = 8,
        carried: bool = False,
        seed: int = 0,
    ) -> None:
        pruned = [group for group in graph.groups if group.name in set(groups)]
        layers = dict(_layers_of(network))
        for group in pruned:
            if not any(member.path in layers for member in group.members):
                raise MethodError(
                    f"latents: no convolution or linear layer whose weight can be generated has the channels of "
                    f"{group.name!r}; exclude it"
                )
        super().__init__(network)
        self.budget, self.gamma, self.threshold, self.stop_limit = budget, gamma, threshold, stop_limit
        self.min_survivors, self.check_every = min_survivors, check_every
        self._network = (network,)
        self._sizes = {group.name: group.n_units for group in pruned}
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.randn(sum(self._sizes.values()), generator=generator)
        like = next(iter(layers.values()))._parameters["weight"]
        assert like is not None
        self.latents = nn.Parameter((torch.ones_like(drawn) if carried else drawn).to(like))
        owner = torch.repeat_interleave(torch.arange(len(pruned)), torch.tensor(list(self._sizes.values())))
        self.register_buffer("owner", owner.to(like.device), persistent=False)
        self.register_buffer("updates", torch.zeros((), dtype=torch.long, device=like.device))
        self.register_buffer("done", torch.zeros((), dtype=torch.bool, device=like.device))
        for path, axes in _entries(pruned, layers).items():
            layer = layers[path]
            weight = cast("Tensor", layer._parameters["weight"])
            made = HyperNetwork(
                weight,
                self.latents,
                axes,
                fan_in=_fan_in(layer, weight),
                embedding=embedding,
                generator=generator,
                carried=carried,
            )
            generate_weight(layer, made)

    def parameter_groups(self, network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
        """Return one group with weight decay on everything, latents included, as in the official code."""
        trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
        return [{"params": trained, "weight_decay": weight_decay}]

    @torch.no_grad()
    def after_step(self, lr: float) -> None:
        """Take the proximal step, and check the cost every `check_every` updates."""
        size = self.latents.abs()
        alive = size.new_zeros(len(self._sizes)).index_add_(0, self.owner, (size >= self.threshold).to(size.dtype))
        shrunk = self.latents.sign() * (size - lr * self.gamma).clamp(min=0)
        self.latents.copy_(torch.where((alive > self.min_survivors)[self.owner], shrunk, self.latents))
        self.updates += 1
        if self.budget is not None and int(self.updates) % self.check_every == 0:
            reached = self.budget.cost(self.counts()) / self.budget.dense
            self.done.fill_(reached - self.budget.limit / self.budget.dense <= self.stop_limit)

    @property
    def finished(self) -> bool:
        """Whether the units of at least `threshold` meet the budget, within `stop_limit`."""
        return bool(self.done)

    def counts(self) -> dict[str, int]:
        """Count each group's units with ``|z| >= min(threshold, the min_survivors-th largest |z|)``."""
        return {
            name: max(int((part >= self.threshold).sum()), min(self.min_survivors, len(part)))
            for name, part in self._by_group().items()
        }

    def scores(self) -> Scores:
        """Return |z| of each unit."""
        return {name: tuple(part.tolist()) for name, part in self._by_group().items()}

    def fold(self) -> None:
        """Replace the hypernetworks by the weights they generate; the network's outputs do not change."""
        (network,) = self._network
        for layer in network.modules():
            if any(isinstance(made, HyperNetwork) for made in _parametrizations(layer)):
                plain_weight(layer)
        self.detach_from(network)

    def _by_group(self) -> dict[str, Tensor]:
        parts = torch.split(self.latents.detach().abs(), list(self._sizes.values()))
        return dict(zip(self._sizes, parts, strict=True))


def _layers_of(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the layers whose weight can be generated, by the weight's name."""
    users = Counter(id(p) for module in network.modules() for p in module._parameters.values() if p is not None)
    for name, module in network.named_modules():
        weight = module._parameters.get("weight")
        if weight is None or not weight.requires_grad or users[id(weight)] > 1:
            continue
        if isinstance(module, (_ConvNd, nn.Linear)):
            yield f"{name}.weight" if name else "weight", module


def _entries(groups: list[ChannelGroup], layers: dict[str, nn.Module]) -> dict[str, tuple[list[int], list[int]]]:
    """Return the latent of every position along the first two axes of each weight; -1 for none."""
    latents_of: dict[str, tuple[list[int], list[int]]] = {}
    for path, layer in layers.items():
        shape = cast("Tensor", layer._parameters["weight"]).shape
        latents_of[path] = ([-1] * shape[0], [-1] * shape[1])
    first = 0
    for group in groups:
        for member in group.members:
            if member.path in latents_of:
                for unit, positions in enumerate(member.indices):
                    for position in positions:
                        latents_of[member.path][member.axis][position] = first + unit
        first += group.n_units
    return latents_of


def _fan_in(layer: nn.Module, weight: Tensor) -> int:
    if isinstance(layer, _ConvNd) and layer.transposed:
        return weight[:, 0].numel() // layer.groups
    return weight[0].numel()


def _parametrizations(layer: nn.Module) -> Iterator[nn.Module]:
    chains = layer._modules.get("parametrizations")
    if chains is not None and hasattr(chains, "weight"):
        yield from cast("nn.ModuleList", chains.weight)
