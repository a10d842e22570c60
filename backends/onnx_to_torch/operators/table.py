"""Table of operator converters, filled with the decorator `OperatorTable.add`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from backends.onnx_to_torch.node import Call, Value

__all__ = ["Operator", "OperatorTable"]

Operator: TypeAlias = Callable[[Call], Value | tuple[Value, ...]]


class OperatorTable(dict[str, Operator]):
    """Functions that convert a node, by operator name."""

    def add(self, *names: str) -> Callable[[Operator], Operator]:
        """Return a decorator that registers a function under `names`."""

        def register(function: Operator) -> Operator:
            self.update(dict.fromkeys(names, function))
            return function

        return register
