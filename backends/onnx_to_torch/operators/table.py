"""How an operator is entered in a table of operators."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from backends.onnx_to_torch.node import Call, Value

__all__ = ["Operator", "OperatorTable"]

Operator: TypeAlias = Callable[[Call], Value | tuple[Value, ...]]


class OperatorTable(dict[str, Operator]):
    """What converts a node, by the name of its operator."""

    def add(self, *names: str) -> Callable[[Operator], Operator]:
        """Return a decorator that enters a function under `names`."""

        def register(function: Operator) -> Operator:
            self.update(dict.fromkeys(names, function))
            return function

        return register
