"""Attention over tensors of any rank, rewritten for the exporter's only layout: batch, heads, length, size."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

__all__ = ["in_four_axes"]

_ATTENTION = torch.ops.aten.scaled_dot_product_attention.default


def in_four_axes(program: ExportedProgram) -> ExportedProgram:
    """Reshape inputs and output of each attention whose rank is not 4; the others stay unchanged."""
    calls = [node for node in program.graph.nodes if node.target is _ATTENTION]
    if all(node.args[0].meta["val"].dim() == 4 for node in calls):
        return program
    reshaped: ExportedProgram = program.run_decompositions({_ATTENTION: _attention})
    return reshaped


def _attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, *args: Any, **options: Any
) -> Any:
    if query.dim() in (2, 4):  # without an axis to spare: left to the exporter, with its own message
        return NotImplemented
    shapes = (query.shape[:-3], key.shape[:-3], value.shape[:-3])
    leading = torch.broadcast_shapes(*shapes)  # type: ignore[no-untyped-call]
    if attn_mask is not None and attn_mask.dim() > 2:
        attn_mask = _flat(attn_mask, leading)
    result = _ATTENTION(*(_flat(each, leading) for each in (query, key, value)), attn_mask, *args, **options)
    return result.reshape(*leading, *result.shape[-3:])


def _flat(tensor: Tensor, leading: torch.Size) -> Tensor:
    """Merge all axes but the last three into one."""
    if not leading:
        return tensor.unsqueeze(0)
    return tensor.expand(*leading, *tensor.shape[-3:]).flatten(0, -4)
