"""Attention over tensors of any rank, in the one form that the exporter translates: batch, heads, length, size."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

__all__ = ["in_four_axes"]

_ATTENTION = torch.ops.aten.scaled_dot_product_attention.default


def in_four_axes(program: ExportedProgram) -> ExportedProgram:
    """Reshape what goes into each attention of another rank than 4, and what comes out; the others stay as they are."""
    calls = [node for node in program.graph.nodes if node.target is _ATTENTION]
    if all(node.args[0].meta["val"].dim() == 4 for node in calls):
        return program
    reshaped: ExportedProgram = program.run_decompositions({_ATTENTION: _attention})
    return reshaped


def _attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, *args: Any, **options: Any
) -> Any:
    if query.dim() in (2, 4):  # what has no axis to spare is left to the exporter's own words
        return NotImplemented
    shapes = (query.shape[:-3], key.shape[:-3], value.shape[:-3])
    leading = torch.broadcast_shapes(*shapes)  # type: ignore[no-untyped-call]
    if attn_mask is not None and attn_mask.dim() > 2:
        attn_mask = _flat(attn_mask, leading)
    result = _ATTENTION(*(_flat(each, leading) for each in (query, key, value)), attn_mask, *args, **options)
    return result.reshape(*leading, *result.shape[-3:])


def _flat(tensor: Tensor, leading: torch.Size) -> Tensor:
    """Make one axis of all but the last three."""
    if not leading:
        return tensor.unsqueeze(0)
    return tensor.expand(*leading, *tensor.shape[-3:]).flatten(0, -4)
