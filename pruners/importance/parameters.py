"""Derivatives with respect to parameters without touching them: the traced network runs with stand-ins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from pruners.errors import MethodError
from pruners.importance.evidence import Evidence

__all__ = ["Substituted", "substituted"]


@dataclass(frozen=True, eq=False)
class Substituted:
    """The traced network with separate leaf tensors in place of some parameters.

    Parameters
    ----------
    module : GraphModule
        Runs in evaluation mode.
    leaves : Mapping of str to Tensor
        Leaf tensors by the parameter's name in the model.
    replacements : Mapping of str to Tensor
        Leaf tensors by the name in `module`; several names may share a leaf.
    """

    module: fx.GraphModule
    leaves: Mapping[str, Tensor]
    replacements: Mapping[str, Tensor]

    def run(self, inputs: Tensor) -> Any:
        """Run the network; its outputs depend on the leaves."""
        return torch.func.functional_call(self.module, dict(self.replacements), (inputs,), tie_weights=False)

    def slopes(self, value: Tensor, *, create_graph: bool = False) -> dict[str, Tensor]:
        """Differentiate a scalar with respect to each leaf; zeros for a leaf that it does not depend on.

        Raises
        ------
        MethodError
            The scalar has no derivative at all.
        """
        if not value.requires_grad:
            raise MethodError("the loss has no derivative by the parameters; hand in one that autograd follows")
        gradients = torch.autograd.grad(
            value, list(self.leaves.values()), create_graph=create_graph, allow_unused=True, materialize_grads=True
        )
        return dict(zip(self.leaves, gradients, strict=True))


def substituted(evidence: Evidence, paths: Sequence[str]) -> Substituted:
    """Replace the parameters called `paths`: frozen ones get derivatives too, and no ``.grad`` is written."""
    named = dict(evidence.model.named_parameters())
    leaves = {path: named[path].detach().clone().requires_grad_() for path in paths}
    by_identity = {id(named[path]): leaf for path, leaf in leaves.items()}
    replacements = {
        name: by_identity[id(parameter)]
        for name, parameter in evidence.graph.module.named_parameters(remove_duplicate=False)
        if id(parameter) in by_identity
    }
    return Substituted(evidence.graph.module, leaves, replacements)
