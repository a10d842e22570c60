"""Scales on units and on whole residual blocks, shrunk to zero by the accelerated proximal gradient method."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization, remove_parametrizations

from pruners.errors import MethodError
from pruners.gates.gate import Gate
from pruners.gates.scale_sites import ScaleSite, block_sites, unit_sites
from pruners.importance.scores import Scores

if TYPE_CHECKING:
    from pruners.graph import Graph

__all__ = ["StructureScales", "apg_step"]


def apg_step(
    point: Tensor, velocity: Tensor, slope: Tensor, *, lr: float, strength: float, momentum: float
) -> tuple[Tensor, Tensor]:
    """Take one accelerated proximal gradient step for ``G(point) + strength * |point|_1``.

    ``z = S(point - lr * slope)`` with the soft threshold ``S`` of ``lr * strength``, ``v' = z - point + momentum * v``,
    ``point' = z + momentum * v'``: the form of Nesterov momentum that keeps the point at which the next gradient is
    taken.

    Parameters
    ----------
    point, velocity, slope : Tensor
        All of one shape; `slope` is the gradient of G at `point`.
    lr, strength, momentum : float
        eta, gamma and mu of the paper.

    Returns
    -------
    tuple of Tensor
        The next point and the next velocity.

    References
    ----------
    Huang, Wang, ECCV 2018, arXiv:1707.01213, equations 10 to 12; Beck, Teboulle, SIAM J. Imaging Sciences 2009.
    """
    moved = point - lr * slope
    shrunk = moved.sign() * (moved.abs() - lr * strength).clamp_min(0)
    velocity = shrunk - point + momentum * velocity
    return shrunk + momentum * velocity, velocity


class StructureScales(Gate):
    """A scale on each unit and residual block: ``lambda * f`` for a feature map, ``x + lambda * f(x)`` for a block.

    The scales start at one and are trained with the network under ``strength * |lambda|_1``, without weight decay. The
    gate updates them itself, after the optimizer's step, by `apg_step` at the optimizer's learning rate. No scale is
    below zero; a structure whose scale is zero can be removed without changing the network's outputs.

    A scale multiplies the network's own tensors through parametrizations, so folding is exact: for a unit the columns
    of all layers that read it, for a block the last affine tensors of its branch (`pruners.gates.scale_sites`). A
    structure without such tensors has no scale; `ungated` says why.

    Parameters
    ----------
    network : Module
        The traced network or a copy of it; modified in place.
    graph : Graph
        Its trace.
    groups : sequence of str
        Groups whose units get a scale.
    blocks : sequence of str
        Residual blocks that get a scale.
    strength : float
        gamma of the scales.
    unit_strength : float, optional
        gamma of the units' scales; default: `strength`.
    momentum : float
        mu.

    Raises
    ------
    MethodError
        No structure can be scaled, or the network has a gate already.

    Examples
    --------
    In your own training loop::

        graph = trace(network, example_inputs)
        blocks = [block.name for block in graph.blocks]
        gate = StructureScales(network, graph, blocks=blocks, strength=0.01)
        optimizer = SGD(gate.parameter_groups(network, weight_decay=1e-4), lr=0.1, momentum=0.9, nesterov=True)
        for images, labels in batches:
            optimizer.zero_grad()
            cross_entropy(network(images), labels).backward()
            optimizer.step()
            gate.after_step(lr=0.1)
        gone = [name for name, scale in gate.block_scores().items() if scale == 0]
        gate.fold()

    References
    ----------
    Huang, Wang, "Data-Driven Sparse Structure Selection for Deep Neural Networks", ECCV 2018, arXiv:1707.01213.
    """

    def __init__(
        self,
        network: nn.Module,
        graph: Graph,
        *,
        groups: Sequence[str] = (),
        blocks: Sequence[str] = (),
        strength: float,
        unit_strength: float | None = None,
        momentum: float = 0.9,
    ) -> None:
        units, no_units = unit_sites(graph, groups)
        wholes, no_blocks = block_sites(graph, [block for block in graph.blocks if block.name in blocks])
        alone = _parameters_alone(network)
        for sites, reasons in ((units, no_units), (wholes, no_blocks)):
            for name in list(sites):
                other = next((site.path for site in sites[name] if site.path not in alone), None)
                if other is not None:
                    reasons[name] = f"{other} is not a plain parameter of one layer"
                    del sites[name]
        if not units and not wholes:
            each = "; ".join(f"{name}: {why}" for name, why in {**no_units, **no_blocks}.items())
            raise MethodError(f"no unit and no residual block of the network can be scaled{each and ': '}{each}")
        super().__init__(network)
        self.ungated = {**no_units, **no_blocks}
        self.momentum = momentum
        self._groups, self._blocks = tuple(units), tuple(wholes)
        self._strengths = [strength if unit_strength is None else unit_strength] * len(units) + [strength]
        # In a tuple: the network holds the gate, not the other way round.
        self._home = (network,)
        self._orders: dict[str, list[str]] = {}
        self._scaled: dict[str, None] = {}
        like = next(network.parameters())
        dtype = like.dtype if like.dtype == torch.float64 else torch.float32
        sizes = [*(graph.group(name).n_units for name in units), *([len(wholes)] if wholes else [])]
        self.scales = nn.ParameterList([torch.ones(size, dtype=dtype, device=like.device) for size in sizes])
        for number, scale in enumerate(self.scales):
            self.register_buffer(f"velocity_{number}", torch.zeros_like(scale, requires_grad=False))
        for number, own in enumerate(units.values()):
            for site in own:
                self._attach(site.path, _UnitScale(self.scales[number], site, like=alone[site.path]))
        for position, own in enumerate(wholes.values()):
            for site in own:
                self._attach(site.path, _BlockScale(self.scales[-1], position))

    def _attach(self, path: str, factor: nn.Module) -> None:
        module, _, name = path.rpartition(".")
        owner = self._home[0].get_submodule(module)
        self._orders.setdefault(module, list(owner._parameters))
        self._scaled[path] = None
        register_parametrization(owner, name, factor)

    def updated_here(self) -> list[nn.Parameter]:
        """List the scales: the optimizer leaves them alone."""
        return list(self.scales)

    def after_step(self, lr: float) -> None:
        """Update the scales from the gradients of the last backward pass, and clear these gradients."""
        with torch.no_grad():
            for number, (scale, strength) in enumerate(zip(self.scales, self._strengths, strict=False)):
                if scale.grad is None:
                    continue
                velocity = self.get_buffer(f"velocity_{number}")
                point, speed = apg_step(scale, velocity, scale.grad, lr=lr, strength=strength, momentum=self.momentum)
                scale.copy_(point.clamp_min(0))
                velocity.copy_(speed)
                scale.grad = None

    def scores(self) -> Scores:
        """Return the scale of each unit of each group that has scales."""
        return {name: tuple(scale.tolist()) for name, scale in zip(self._groups, self.scales, strict=False)}

    def block_scores(self) -> dict[str, float]:
        """Return the scale of each residual block that has one."""
        return dict(zip(self._blocks, self.scales[-1].tolist(), strict=True)) if self._blocks else {}

    def fold(self) -> None:
        """Multiply the scales into their tensors and detach; the network's outputs do not change."""
        network = self._home[0]
        for path in self._scaled:
            module, _, name = path.rpartition(".")
            owner = network.get_submodule(module)
            owner.__class__ = _own_class(type(owner))
            remove_parametrizations(owner, name)
        for module, names in self._orders.items():
            parameters = network.get_submodule(module)._parameters
            for name in names:
                parameters[name] = parameters.pop(name)
        self.detach_from(network)


class _UnitScale(nn.Module):
    """Multiplies slices of a tensor, each by the scale of its unit."""

    def __init__(self, scale: nn.Parameter, site: ScaleSite, like: Tensor) -> None:
        super().__init__()
        # In a tuple: it is a parameter of the gate, not of the layers that it scales.
        self._scale = (scale,)
        self._shape = [-1 if axis == site.axis else 1 for axis in range(like.ndim)]
        unit = torch.full((like.shape[site.axis],), len(site.indices), device=like.device)
        for number, positions in enumerate(site.indices):
            unit[list(positions)] = number
        self.register_buffer("unit", unit, persistent=False)

    def forward(self, tensor: Tensor) -> Tensor:
        (scale,) = self._scale
        factors = torch.cat([scale, scale.new_ones(1)])[self.get_buffer("unit")]
        return (tensor * factors.reshape(self._shape)).to(tensor.dtype)


class _BlockScale(nn.Module):
    """Multiplies a tensor by one scale."""

    def __init__(self, scales: nn.Parameter, position: int) -> None:
        super().__init__()
        self._scales = (scales,)
        self._position = position

    def forward(self, tensor: Tensor) -> Tensor:
        return (tensor * self._scales[0][self._position]).to(tensor.dtype)


def _own_class(shared: type[nn.Module]) -> type[nn.Module]:
    """Copy a class of a parametrized module: deep copies share it, and removing a parametrization changes it."""
    members = {name: member for name, member in vars(shared).items() if name not in {"__dict__", "__weakref__"}}
    return type(shared.__name__, shared.__bases__, members)


def _parameters_alone(network: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that belong to exactly one layer and are not parametrized."""
    holders: dict[int, int] = {}
    for module in network.modules():
        for parameter in module._parameters.values():
            if parameter is not None:
                holders[id(parameter)] = holders.get(id(parameter), 0) + 1
    return {
        name: parameter
        for name, parameter in network.named_parameters()
        if holders[id(parameter)] == 1 and "parametrizations" not in name.split(".")
    }
