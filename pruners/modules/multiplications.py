"""Count the multiply-accumulates of a run, from the operators that were executed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

__all__ = ["MacCounter"]


class MacCounter(TorchDispatchMode):
    """Adds up the MACs of convolutions, linear layers, matrix products and attention while it is entered.

    Operators that hide their products (a fused recurrent layer) count as zero: check the count on a network of known
    MACs before trusting it on another one.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.macs = 0

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operator and count it."""
        result = func(*args, **(kwargs or {}))
        operator = func._overloadpacket
        if operator in flop_registry:
            self.macs += flop_registry[operator](*args, **(kwargs or {}), out_val=result) // 2
        elif operator is torch.ops.aten._native_multi_head_attention:
            query, key, _, width, _, inside, _, outside = args[:8]
            self.macs += _attention(query, key, width, inside, outside)
        return result


def _attention(query: Tensor, key: Tensor, width: int, inside: Tensor, outside: Tensor) -> int:
    """Count projections, scores and weighted sums; `inside` has shape (3 * width, width), `outside` a square one."""
    examples, length = query.shape[:2]
    projections = math.prod(inside.shape) + math.prod(outside.shape)
    return examples * length * (projections + 2 * key.shape[1] * width)
