"""Make a graph call layers that drop values at random as layers again, so that their rates are not baked in."""

from __future__ import annotations

import copy
from collections.abc import Collection
from inspect import signature
from typing import Any

import torch
from torch import Tensor, fx, nn

from pruners.channels.propagation import operator_name

__all__ = ["AttentionDropout", "call_random_layers"]

_DROPOUTS: dict[str, type[nn.Module]] = {
    "dropout": nn.Dropout,
    "feature_dropout": nn.Dropout2d,
    "alpha_dropout": nn.AlphaDropout,
    "feature_alpha_dropout": nn.FeatureAlphaDropout,
}
_BY_RANK: dict[int, type[nn.Module]] = {3: nn.Dropout1d, 4: nn.Dropout2d, 5: nn.Dropout3d}
_LAYERS = (*_DROPOUTS.values(), nn.Dropout1d, nn.Dropout3d)
_ATTENTION_RATE = 4


class AttentionDropout(nn.Dropout):
    """The rate `p` at which attention drops its weights in training mode; called without arguments, returns it."""

    def forward(self) -> float:  # type: ignore[override]
        """Return the rate of the current mode."""
        return self.p if self.training else 0.0


def call_random_layers(model: nn.Module, graph: fx.Graph, resized: Collection[str]) -> dict[str, nn.Module]:
    """Make a graph call layers instead of the operators that they were traced to, in place; return copies of them.

    These are the network's own dropout layers and others that draw random numbers and have no tensors (stochastic
    depth), under their paths, and a new layer, ``PATH.dropout``, if the code at a path calls a function in training.

    Parameters
    ----------
    resized : collection of str
        Paths of modules in whose code sizes changed: such code stays as traced.
    """
    layers, called = dict(model.named_modules()), dict[str, nn.Module]()
    for node in list(graph.nodes):
        (_, path), name = _call(node), operator_name(node.target)
        own: Any = layers.get(path)
        if name in _DROPOUTS and len(node.args) == 3:
            if type(own) not in _LAYERS or node.args[1] != own.p:
                if node.args[2] is not True:
                    continue
                own, path = _layer_for(node, name), _free(model, called, path)
            called.setdefault(path, type(own)(own.p).train(own.training))
            node.op, node.target, node.args, node.kwargs = "call_module", path, node.args[:1], {}
        elif name == "scaled_dot_product_attention":
            rate = node.args[_ATTENTION_RATE] if len(node.args) > _ATTENTION_RATE else node.kwargs.get("dropout_p", 0.0)
            if rate:
                path = _unfused(own, path, rate) or _free(model, called, path)
                called[path] = AttentionDropout(rate)
                with graph.inserting_before(node):
                    drawn = graph.call_module(path)
                if len(node.args) > _ATTENTION_RATE:
                    node.update_arg(_ATTENTION_RATE, drawn)
                else:
                    node.update_kwarg("dropout_p", drawn)
    for call in dict.fromkeys(_call(node) for node in graph.nodes if _draws(node)):
        path = call[1]
        if path in layers and _plain(layers[path]) and path not in resized and _call_instead(graph, call):
            called.setdefault(path, copy.deepcopy(layers[path]))
    return called


def _call(node: fx.Node) -> tuple[str, str]:
    """Return the call that a node belongs to, and the path of the called module."""
    stack = node.meta.get("nn_module_stack") or {"": ("",)}
    call, (path, *_) = list(stack.items())[-1]
    return call, path.partition("@")[0]


def _layer_for(node: fx.Node, name: str) -> nn.Module:
    kind = _DROPOUTS[name]
    if kind is nn.Dropout2d:
        kind = _BY_RANK.get(node.args[0].meta["val"].ndim, kind)  # type: ignore[union-attr]
    return kind(node.args[1])


def _free(model: nn.Module, called: Collection[str], path: str) -> str:
    """Return a name for a new layer at a path."""
    taken = {*called, *dict(model.named_modules()), *model.state_dict(keep_vars=True)}
    names = ("dropout", *(f"dropout_{number}" for number in range(1, len(taken) + 2)))
    return next(full for name in names if (full := f"{path}.{name}".lstrip(".")) not in taken)


def _unfused(module: nn.Module | None, path: str, rate: float) -> str:
    """Return the path of the only dropout layer with that rate directly inside a module; else an empty string."""
    inside = () if module is None else module.named_children()
    names = [name for name, child in inside if isinstance(child, nn.Dropout) and child.p == rate]
    return f"{path}.{names[0]}".lstrip(".") if len(names) == 1 else ""


def _draws(node: fx.Node) -> bool:
    target = node.target
    return isinstance(target, torch._ops.OpOverload) and torch.Tag.nondeterministic_seeded in target.tags


def _plain(layer: nn.Module) -> bool:
    """Whether a layer is called with one tensor and has none of its own."""
    needed = [p for p in signature(layer.forward).parameters.values() if p.default is p.empty]
    return len(needed) == 1 and not (*layer.children(), *layer.parameters(), *layer.buffers())


def _call_instead(graph: fx.Graph, call: tuple[str, str]) -> bool:
    """Replace what one call of a layer was traced to by that call, if one tensor goes in and one comes out."""
    inside = [node for node in graph.nodes if _call(node) == call and node.op == "call_function"]
    given = {item for node in inside for item in node.all_input_nodes if item not in inside and _is_tensor(item)}
    taken = [node for node in inside if any(user not in inside for user in node.users)]
    if len(given) != 1 or len(taken) != 1 or not _is_tensor(taken[0]):
        return False
    with graph.inserting_before(taken[0]):
        layer = graph.call_module(call[1], tuple(given))
    layer.meta = dict(taken[0].meta)
    taken[0].replace_all_uses_with(layer)
    for node in reversed(inside):
        graph.erase_node(node)
    return True


def _is_tensor(node: fx.Node) -> bool:
    return isinstance(node.meta.get("val"), Tensor)
