"""AutoPruner's gate: selection layers that decide from the activations which units to keep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from pruners.distributed import reduce_means
from pruners.errors import MethodError
from pruners.forms.slicing import tensor_named
from pruners.gates.gate import Gate
from pruners.gates.input_readers import Reader, find_readers
from pruners.gates.selection_layer import SelectionLayer, count_weights
from pruners.gates.selection_rates import Ramp, corrected

if TYPE_CHECKING:
    from pruners.graph import Graph
    from pruners.importance.scores import Scores

__all__ = ["Selection", "require_size"]

_FIRST_LAMBDA, _FIRST_THRESHOLD = 10.0, 0.95


class Selection(Gate):
    """A selection layer for each given group, which multiplies the activation by ``v = sigmoid(alpha * s)``.

    s is computed from the activation of the group as its readers see it (`SelectionLayer`). v multiplies the inputs of
    all layers that read the group: after the non-linearity and any pooling, norm or concatenation, in any network,
    however its activations are called. If several layers read the group, the one that is called first gives s.

    The penalty is ``sum_g lambda_g * (mean(v_g) - r_g)^2``. alpha rises along a ramp common to all groups, and by
    per-group corrections every `check_every` updates, when lambda is updated too (`pruners.gates.selection_rates`). In
    evaluation mode v is a fixed index: 1 where v was above 0.5 in most of the last `check_every` updates, else 0.

    Parameters
    ----------
    network : Module
        Modified in place.
    graph : Graph
        Its trace.
    rates : Mapping of str to float
        Groups that get a selection layer, with the share r of its units that each is to keep.
    updates : int, optional
        Number of updates in the whole training; a trainer can set it later with `expect`.
    alpha : pair of float
        First and last level of the ramp.
    alpha_step : float
        What a correction adds to alpha.
    ramp_every : int
        Updates between two levels of the ramp; fewer if training is too short for 20 levels.
    check_every : int
        Updates between two corrections, and in the record that the index is taken from.
    settle_after : float
        Share of the ramp after which v has to be near 0 or 1.
    max_weights : int
        Maximum number of weights in one fully-connected layer.
    seed : int
        Seed of the random draws.

    Raises
    ------
    MethodError
        A group is read by something other than convolutions and linear layers, a fully-connected layer would be too
        large, or the network has a gate already.

    Examples
    --------
    In your own training loop::

        graph = trace(network, (images[:2],))
        gate = Selection(network, graph, {"conv1": 0.5}, updates=len(batches))
        optimizer = SGD(gate.parameter_groups(network, weight_decay=5e-4), lr=lr, momentum=0.9)
        for images, labels in batches:
            optimizer.zero_grad()
            gate.with_penalty(cross_entropy(network(images), labels)).backward()
            optimizer.step()
            gate.after_step(lr)
        kept = top_units(gate.scores(), {"conv1": graph.group("conv1").n_units // 2})
        gate.fold()
    """

    updates: Tensor
    record: Tensor
    offsets: Tensor
    thresholds: Tensor
    lambdas: Tensor

    def __init__(
        self,
        network: nn.Module,
        graph: Graph,
        rates: Mapping[str, float],
        *,
        updates: int | None = None,
        alpha: tuple[float, float] = (0.1, 2.0),
        alpha_step: float = 0.1,
        ramp_every: int = 100,
        check_every: int = 20,
        settle_after: float = 0.13,
        max_weights: int = 2**26,
        seed: int = 0,
    ) -> None:
        readers_by_group, reasons = find_readers(network, graph, list(rates))
        if reasons:
            name, reason = next(iter(reasons.items()))
            raise MethodError(f"group {name!r} gets no selection layer: {reason}; leave it out")
        for name in rates:
            require_size(name, readers_by_group[name], max_weights)
        super().__init__(network)
        self.rates = dict(rates)
        self.alpha_step, self.check_every = alpha_step, check_every
        self._ramp = partial(Ramp, start=alpha[0], stop=alpha[1], every=ramp_every, settle_after=settle_after)
        self._expected = updates
        self._readers = {name: readers_by_group[name] for name in rates}
        self._network = (network,)
        self._now: dict[str, Tensor] = {}
        generator = torch.Generator().manual_seed(seed)
        self.layers = nn.ModuleList(SelectionLayer(own[0], generator) for own in self._readers.values())
        sizes = [graph.group(name).n_units for name in rates]
        ends = torch.tensor(sizes).cumsum(0).tolist()
        self._slices = {n: slice(end - size, end) for n, size, end in zip(rates, sizes, ends, strict=True)}
        self.register_buffer("updates", torch.zeros((), dtype=torch.long))
        self.register_buffer("record", torch.zeros(check_every, sum(sizes)))
        self.register_buffer("offsets", torch.zeros(len(rates), dtype=torch.float64))
        self.register_buffer("thresholds", torch.full((len(rates),), _FIRST_THRESHOLD, dtype=torch.float64))
        self.register_buffer("lambdas", torch.full((len(rates),), _FIRST_LAMBDA, dtype=torch.float64))
        self._hooks = [network.register_forward_pre_hook(self._begin)]
        points: dict[str, list[tuple[int, str, Reader]]] = {}
        for number, (name, readers) in enumerate(self._readers.items()):
            for reader in readers:
                points.setdefault(reader.module, []).append((number, name, reader))
        for position, (path, groups) in enumerate(points.items()):
            self.register_buffer(f"owners_{position}", _owners(groups), persistent=False)
            hook = partial(self._select, position, [(number, name) for number, name, _ in groups])
            self._hooks.append(network.get_submodule(path).register_forward_pre_hook(hook))
        self.to(next(network.parameters()).device).train(network.training)

    def expect(self, updates: int) -> None:
        """Receive the maximum number of updates."""
        self._expected = updates

    def parameter_groups(self, network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
        """Return one group with weight decay on everything, selection layers included, as in the official code."""
        trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
        return [{"params": trained, "weight_decay": weight_decay}]

    def penalty(self) -> Tensor:
        """Return ``sum_g lambda_g * (mean(v_g) - r_g)^2`` of the batch that just ran."""
        missing = next((name for name in self.rates if name not in self._now), None)
        if missing is not None:
            raise MethodError(f"no layer that reads {missing!r} ran in training mode; call the network first")
        terms = [
            strength * (torch.sigmoid(self._now[name]).mean() - rate) ** 2
            for (name, rate), strength in zip(self.rates.items(), self.lambdas.float(), strict=True)
        ]
        return torch.stack(terms).sum()

    @torch.no_grad()
    def after_step(self, lr: float) -> None:  # noqa: ARG002
        """Record v, and correct alpha and lambda every `check_every` updates."""
        ramp, update = self._schedule(), int(self.updates)
        (now,), _ = reduce_means([torch.cat([self._now[name] for name in self.rates])], 1)
        self._now = {}
        self.record[update % self.check_every] = now.to(self.record)
        self.updates += 1
        if (update + 1) % self.check_every:
            return
        index = self._index()
        for number, (name, rate) in enumerate(self.rates.items()):
            own = self._slices[name]
            self.offsets[number], self.thresholds[number], self.lambdas[number] = corrected(
                float(self.offsets[number]),
                float(self.thresholds[number]),
                closed=1.0 - float(index[own].double().mean()),
                values=torch.sigmoid(now[own]),
                rate=rate,
                step=self.alpha_step,
                settled=ramp.settled(update),
            )

    def alphas(self) -> dict[str, float]:
        """Return alpha of each group in the next update."""
        alpha = self._schedule().alpha(int(self.updates))
        return {name: alpha + float(offset) for name, offset in zip(self.rates, self.offsets, strict=True)}

    def values(self) -> dict[str, Tensor]:
        """Return v of each unit, averaged over the record; one if there is no record yet."""
        record = self._recorded()
        mean = torch.sigmoid(record).mean(0) if len(record) else torch.ones_like(self.record[0])
        return {name: mean[own] for name, own in self._slices.items()}

    def scores(self) -> Scores:
        """Return ``alpha * s`` of each unit, averaged over the record: same order as v, even where v is saturated."""
        record = self._recorded()
        mean = (record if len(record) else torch.zeros_like(self.record[:1])).double().mean(0)
        return {name: tuple(mean[own].tolist()) for name, own in self._slices.items()}

    @torch.no_grad()
    def fold(self) -> None:
        """Multiply v into the columns of the layers that read the units, and detach.

        The network then computes what it does in training mode, except for the batch's own v. Its outputs in evaluation
        mode, where v is replaced by 0 and 1, change to the extent that v is not binary.
        """
        (network,) = self._network
        for name, value in self.values().items():
            for site in dict.fromkeys(reader.site for reader in self._readers[name]):
                weight = tensor_named(network, site.path)
                factor = torch.ones(weight.shape[site.axis], device=weight.device)
                for unit, positions in enumerate(site.indices):
                    factor[list(positions)] = value[unit].to(factor)
                weight.mul_(_along(factor, site.axis, weight.dim()))
        for hook in self._hooks:
            hook.remove()
        self.detach_from(network)

    def _schedule(self) -> Ramp:
        if self._expected is None:
            raise MethodError("selection layers have to know how long the training is: give updates, or call expect")
        return self._ramp(updates=self._expected)

    def _recorded(self) -> Tensor:
        return self.record[: min(int(self.updates), self.check_every)]

    def _index(self) -> Tensor:
        record = self._recorded()
        return (record > 0).double().mean(0) > 0.5 if len(record) else torch.ones_like(self.record[0]).bool()

    def _begin(self, _network: nn.Module, _args: tuple[Any, ...]) -> None:
        self._now = {}

    def _select(
        self, position: int, groups: list[tuple[int, str]], reader: nn.Module, args: tuple[Any, ...]
    ) -> tuple[Any, ...]:
        """Multiply the input of a layer by v of the groups that it reads."""
        inputs: Tensor = args[0]
        if self.training:
            for number, name in groups:
                if name not in self._now:
                    alpha = self._schedule().alpha(int(self.updates)) + self.offsets[number].float()
                    self._now[name] = alpha * self.layers[number](inputs)
            values = [torch.sigmoid(self._now[name]) for _, name in groups]
        else:
            index = self._index()
            values = [index[self._slices[name]].float() for _, name in groups]
        owners = cast("Tensor", getattr(self, f"owners_{position}"))
        factor = torch.cat([*values, values[0].new_ones(1)])[owners].to(inputs.dtype)
        axis = -1 if isinstance(reader, nn.Linear) else 1
        return (inputs * _along(factor, axis % inputs.dim(), inputs.dim()), *args[1:])


def require_size(group: str, readers: Sequence[Reader], max_weights: int) -> None:
    """Check that the fully-connected layer of a group is not too large.

    Raises
    ------
    MethodError
        It would have more than `max_weights` weights.
    """
    n_weights = count_weights(readers[0])
    if n_weights > max_weights:
        raise MethodError(
            f"the selection layer of group {group!r} would have {n_weights:,} weights, more than max_weights "
            f"({max_weights:,}): exclude the group, take smaller inputs, or raise max_weights"
        )


def _owners(groups: list[tuple[int, str, Reader]]) -> Tensor:
    """Return the unit of each channel of a layer's input, numbered across the groups; the number of units if none."""
    reader = groups[0][2]
    owners = torch.full((reader.shape[reader.channel_axis],), sum(len(r.positions) for _, _, r in groups))
    first = 0
    for _, _, own in groups:
        for unit, positions in enumerate(own.positions):
            owners[list(positions)] = first + unit
        first += len(own.positions)
    return owners


def _along(factor: Tensor, axis: int, rank: int) -> Tensor:
    return factor.reshape([-1 if dim == axis else 1 for dim in range(rank)])
