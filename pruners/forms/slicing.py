"""Find a module's tensors by name, and cut positions out of tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from pruners.errors import PlanError

__all__ = ["Positions", "slice_without", "tensor_named"]

Positions = Mapping[int, Sequence[int]]
"""Axis of a tensor -> positions along it, ascending."""


def tensor_named(module: nn.Module, path: str) -> Tensor:
    """Return a parameter or buffer by its name in the module.

    Raises
    ------
    PlanError
        There is no such tensor.
    """
    parent, _, attribute = path.rpartition(".")
    try:
        owner = module.get_submodule(parent)
    except AttributeError as error:
        raise PlanError(f"the network has no parameter or buffer {path!r}") from error
    tensor = owner._parameters.get(attribute, owner._buffers.get(attribute))
    if tensor is None:
        raise PlanError(f"the network has no parameter or buffer {path!r}")
    return tensor


def slice_without(tensor: Tensor, axes: Positions) -> Tensor:
    """Return a copy of `tensor` without the given positions of its axes.

    Parameters
    ----------
    tensor : Tensor
        Any shape and dtype; the order of its axes in memory is kept.
    axes : Mapping of int to sequence of int
        Axis -> positions along it, ascending.
    """
    with torch.no_grad():
        strides = tensor.stride()
        order = sorted(range(tensor.ndim), key=lambda axis: -strides[axis])
        for axis, positions in axes.items():
            stay = torch.ones(tensor.shape[axis], dtype=torch.bool)
            stay[torch.tensor(positions, dtype=torch.int64)] = False
            tensor = tensor.index_select(axis, stay.nonzero().reshape(-1).to(tensor.device))
        if axes and order == sorted(order):  # the selection already has this layout
            return tensor.detach()
        inverse = sorted(range(tensor.ndim), key=order.__getitem__)
        laid_out = tensor.detach().permute(order).clone(memory_format=torch.contiguous_format)
        return laid_out.permute(inverse)
