"""Convert networks and tensors to another precision, complex ones included."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["comparable", "in_precision", "precise", "varies"]


def precise(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a tensor in a floating-point dtype, a complex one in the corresponding complex dtype; others unchanged."""
    if tensor.is_complex():
        return tensor.to(dtype.to_complex())
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def in_precision(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Convert parameters and buffers in place, as ``module.float()`` does, complex ones too; return the module."""
    module._apply(lambda tensor: precise(tensor, dtype))  # type: ignore[no-untyped-call]
    return module


def comparable(tensor: Tensor) -> Tensor:
    """Return a tensor in float64, real and imaginary parts of a complex one along a new last axis."""
    return torch.view_as_real(tensor.to(torch.complex128)) if tensor.is_complex() else tensor.double()


def varies(tensor: Tensor) -> bool:
    """Return whether a tensor holds real or complex numbers, not integers or booleans."""
    return tensor.is_floating_point() or tensor.is_complex()
