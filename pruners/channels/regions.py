"""Inline regions of a program that run in their own mode (autocast, gradients), if no label depends on the mode."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx

__all__ = ["inline_regions"]


def inline_regions(module: fx.GraphModule, *, training: bool) -> bool:
    """Replace the calls of such regions by their nodes, in place; return whether one was under autocast.

    Programs run in the precision of their tensors, without autocast: a region that disables autocast is ordinary code,
    and one under autocast runs in another precision than in the network. In evaluation mode a region without gradients
    is ordinary too; in training mode a ``detach`` of each of its results keeps gradients from flowing into it. Other
    regions stay calls.
    """
    autocast = False
    for node in list(module.graph.nodes):
        if node.op != "call_function":
            continue
        name, args = getattr(node.target, "__name__", ""), node.args
        if name == "wrap_with_autocast":
            autocast |= _inline(module, node, args[4], args[5:]) or args[2] is not False
        elif name == "wrap_with_set_grad_enabled" and (not training or args[0] is False):
            autocast |= _inline(module, node, args[1], args[2:], detached=training)
    return autocast


def _inline(
    module: fx.GraphModule, call: fx.Node, region: Any, inputs: Sequence[Any], *, detached: bool = False
) -> bool:
    body = operator.attrgetter(str(region.target))(module)
    autocast = inline_regions(body, training=False)
    copies: dict[fx.Node, Any] = dict(zip((n for n in body.graph.nodes if n.op == "placeholder"), inputs, strict=True))
    results: Sequence[Any] = ()
    with module.graph.inserting_before(call):
        for node in body.graph.nodes:
            if node.op == "output":
                results = fx.map_arg(node.args[0], lambda n: copies[n])
            elif node.op != "placeholder":
                copies[node] = module.graph.node_copy(node, lambda n: copies[n])
    for user in list(call.users):
        position: Any = user.args[1]
        result = results[position]
        if detached and isinstance(result.meta.get("val"), Tensor):
            with module.graph.inserting_before(call):
                inner, result = result, module.graph.call_function(torch.ops.aten.detach.default, (result,))
            result.meta = dict(inner.meta)
        user.replace_all_uses_with(result)
        module.graph.erase_node(user)
    module.graph.erase_node(call)
    if not region.users:
        module.graph.erase_node(region)
    return autocast
