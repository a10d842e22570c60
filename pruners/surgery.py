"""Make a network smaller, or mask it: the only file that cuts weights.

Works on a copy of the user's own module. Its class, code, hooks, parameter names, `requires_grad`, shared tensors and
train/eval mode stay; parameters and buffers are sliced, and the attributes in which torch's layers repeat their
sizes are brought up to date.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from pruners.errors import NothingToPruneError, PlanError, SurgeryError
from pruners.groups import ChannelGroup
from pruners.plan import PruningPlan

if TYPE_CHECKING:
    from pruners.graph import Graph

__all__ = ["apply", "graph_of", "mask", "mask_", "resize_"]


def mask(model: nn.Module, plan: PruningPlan, *, graph: Graph | None = None) -> nn.Module:
    """Return a copy of `model` in which every removed slice is zero, of producers and of consumers.

    Consumers too, as some functions do not map zero to zero (a sigmoid, a shift after the producer).

    Parameters
    ----------
    model : Module
        The network that the plan was made for; not modified.
    graph : Graph, optional
        Its graph; traced again from the plan's inputs when missing.

    Raises
    ------
    PlanError
        The plan was made for another network, or is not legal for it.
    """
    graph = graph_of(model, plan) if graph is None else graph
    graph.check(plan)
    twin = copy.deepcopy(model)
    mask_(twin, removed_positions(graph.groups, plan))
    return twin


def apply(model: nn.Module, plan: PruningPlan, *, graph: Graph | None = None, check: bool = True) -> nn.Module:
    """Return a compact copy of `model`.

    Parameters
    ----------
    model : Module
        The network that the plan was made for; not modified.
    graph : Graph, optional
        Its graph; traced again from the plan's inputs when missing.
    check : bool, default=True
        Whether to run `pruners.verify.verify` on the result.

    Returns
    -------
    Module
        Of the same class, with the same hooks, names and mode.

    Raises
    ------
    PlanError
        The plan was made for another network, or is not legal for it.
    NothingToPruneError
        The plan removes nothing.
    SurgeryError
        The module can not be copied or resized.
    VerificationError
        `check` is on and masked and compact network differ, or the comparison says nothing.
    """
    if not plan.removed_units:
        raise NothingToPruneError("the plan removes nothing")
    graph = graph_of(model, plan) if graph is None else graph
    graph.check(plan)
    twin = copy.deepcopy(model)
    resize_(twin, removed_positions(graph.groups, plan))
    if check:
        from pruners.verify import verify

        verify(model, plan, twin, graph=graph)
    return twin


def graph_of(model: nn.Module, plan: PruningPlan) -> Graph:
    """Trace `model` with inputs as the plan describes them."""
    from pruners.graph import trace
    from pruners.inputs import random_inputs

    device = next((tensor.device for tensor in model.parameters()), torch.device("cpu"))
    return trace(model, random_inputs(plan.inputs, device=device))


def removed_positions(groups: Sequence[ChannelGroup], plan: PruningPlan) -> dict[str, dict[int, list[int]]]:
    """Return the positions that a plan removes: tensor name -> axis -> ascending positions."""
    gone: dict[str, dict[int, list[int]]] = {}
    for group in groups:
        removed = plan.removed(group.name)
        for member in group.members if removed else ():
            axes = gone.setdefault(member.path, {})
            axes.setdefault(member.axis, []).extend(p for unit in removed for p in member.indices[unit])
    return {path: {axis: sorted(where) for axis, where in axes.items()} for path, axes in gone.items()}


def mask_(module: nn.Module, gone: Mapping[str, Mapping[int, Sequence[int]]]) -> None:
    """Zero the given positions of named tensors in place."""
    with torch.no_grad():
        for path, axes in gone.items():
            tensor = _named(module, path)
            for axis, positions in axes.items():
                tensor.index_fill_(axis, torch.tensor(positions, device=tensor.device), 0)


def slice_without(tensor: Tensor, axes: Mapping[int, Sequence[int]]) -> Tensor:
    """Return a contiguous copy of `tensor` without the given positions of its axes."""
    with torch.no_grad():
        for axis, positions in axes.items():
            stay = torch.ones(tensor.shape[axis], dtype=torch.bool)
            stay[torch.tensor(positions, dtype=torch.int64)] = False
            tensor = tensor.index_select(axis, stay.nonzero().reshape(-1).to(tensor.device))
        return tensor.detach().clone(memory_format=torch.contiguous_format)


def resize_(module: nn.Module, gone: Mapping[str, Mapping[int, Sequence[int]]]) -> None:
    """Take the given positions out of named tensors, in place, wherever a tensor is used.

    Raises
    ------
    SurgeryError
        A layer's sizes do not allow it.
    """
    smaller: dict[int, Tensor] = {}
    keep_alive = []
    for path, axes in gone.items():
        old = _named(module, path)
        new = slice_without(old, axes)
        if isinstance(old, nn.Parameter):
            new = nn.Parameter(new, requires_grad=old.requires_grad)
        smaller[id(old)] = new
        keep_alive.append(old)
    for name, layer in module.named_modules():
        before = dict(layer._parameters), dict(layer._buffers)
        changed = False
        for tensors in (layer._parameters, layer._buffers):
            for attribute, tensor in tensors.items():
                if tensor is not None and id(tensor) in smaller:
                    tensors[attribute] = smaller[id(tensor)]
                    changed = True
        if changed:
            _update_sizes(name, layer, {**before[0], **before[1]})


def _named(module: nn.Module, path: str) -> Tensor:
    parent, _, attribute = path.rpartition(".")
    tensor = getattr(module.get_submodule(parent), attribute, None)
    if not isinstance(tensor, Tensor):
        raise PlanError(f"the network has no parameter or buffer {path!r}")
    return tensor


def _update_sizes(name: str, layer: nn.Module, before: Mapping[str, Tensor | None]) -> None:
    for kind, update in _UPDATES:
        if isinstance(layer, kind):
            update(name, layer, before)
            return


def _resize_convolution(name: str, layer: Any, before: Mapping[str, Tensor | None]) -> None:
    old, new = before["weight"], layer.weight
    assert old is not None
    # axis 0 holds all groups one after the other: output channels, or input channels when transposed
    per_group = old.shape[0] // layer.groups
    if layer.groups > 1:
        if new.shape[0] % per_group or old.shape[1] != new.shape[1]:
            raise SurgeryError(f"{name}: a grouped convolution loses whole groups, not parts of them")
        layer.groups = new.shape[0] // per_group
    sides = ("in_channels", "out_channels") if layer.transposed else ("out_channels", "in_channels")
    setattr(layer, sides[0], new.shape[0])
    setattr(layer, sides[1], new.shape[1] * layer.groups)


def _resize_linear(_: str, layer: Any, __: Mapping[str, Tensor | None]) -> None:
    layer.out_features, layer.in_features = layer.weight.shape


def _resize_norm(_: str, layer: Any, __: Mapping[str, Tensor | None]) -> None:
    of_layer = (layer.weight, layer.bias, layer.running_mean, layer.running_var)
    layer.num_features = next(tensor.shape[0] for tensor in of_layer if tensor is not None)


def _resize_prelu(_: str, layer: Any, __: Mapping[str, Tensor | None]) -> None:
    layer.num_parameters = layer.weight.shape[0]


def _resize_embedding(_: str, layer: Any, __: Mapping[str, Tensor | None]) -> None:
    layer.num_embeddings, layer.embedding_dim = layer.weight.shape


_Update = Callable[[str, Any, Mapping[str, Tensor | None]], None]
_UPDATES: tuple[tuple[type[nn.Module] | tuple[type[nn.Module], ...], _Update], ...] = (
    (nn.modules.conv._ConvNd, _resize_convolution),
    (nn.Linear, _resize_linear),
    (nn.modules.batchnorm._NormBase, _resize_norm),
    (nn.PReLU, _resize_prelu),
    (nn.Embedding, _resize_embedding),
)
"""Layers that repeat their sizes in attributes; other modules keep them in their tensors only."""
