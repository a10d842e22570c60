"""Prune a network with Torch-Pruning as its own examples do; optional, for comparison only."""

from __future__ import annotations

import copy
import warnings
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from deploy.studies.coverage.checks import cost
from deploy.studies.coverage.clock import Clock
from deploy.studies.coverage.rows import CoverageSettings, ListedNetwork

__all__ = ["output_layers", "prune"]

_LAYERS = (nn.Linear, nn.modules.conv._ConvNd)


def prune(
    network: nn.Module,
    inputs: tuple[Tensor, ...],
    entry: ListedNetwork,
    settings: CoverageSettings,
    facts: dict[str, Any],
    clock: Clock,
) -> nn.Module:
    """Prune by group L1 norm except the output layers; retry with hints if that fails or saves too little.

    The hints are those of the library's examples: give the number of heads of attention layers, update sizes that
    layers keep in attributes, and leave the feature pyramid and box heads of an R-CNN alone. Errors of the library are
    passed on.
    """
    dense, _ = cost(network, inputs)
    try:
        return _attempt(network, inputs, entry, settings, facts, clock, dense, hints=False)
    except Exception:  # the second attempt decides
        if not any(_heads(network)) and not _pyramid_and_boxes(network):
            raise
    return _attempt(network, inputs, entry, settings, facts, clock, dense, hints=True)


def _attempt(
    network: nn.Module,
    inputs: tuple[Tensor, ...],
    entry: ListedNetwork,
    settings: CoverageSettings,
    facts: dict[str, Any],
    clock: Clock,
    dense: int,
    *,
    hints: bool,
) -> nn.Module:
    library = import_module("torch_pruning")
    facts.update(attempt="hints" if hints else "plain", form="module")
    pruned = copy.deepcopy(network)
    heads, groups = _heads(pruned) if hints else ({}, {})
    with clock.measure("prune", limited=True), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pruner = library.pruner.BasePruner(
            pruned,
            inputs if len(inputs) > 1 else inputs[0],
            importance=library.importance.GroupMagnitudeImportance(p=1),
            pruning_ratio=settings.ratio,
            ignored_layers=[*output_layers(pruned, inputs), *(_pyramid_and_boxes(pruned) if hints else ())],
            num_heads=heads,
            in_channel_groups={},
            out_channel_groups=groups,
        )
        pruner.step()
    if hints:
        _update_attributes(pruned)
    with clock.measure("forward"), torch.no_grad():
        pruned(*inputs)
    after, parameters = cost(pruned, inputs)
    facts.update(macs_after=after, parameters_after=parameters)
    if not hints and 1 - after / dense < settings.least_saved:
        raise RuntimeError(f"only {1 - after / dense:.0%} fewer multiply-accumulates")
    if entry.wrapper == "detector":
        images = [torch.rand(3, 120, 140, generator=torch.Generator().manual_seed(settings.seed))]
        with clock.measure("detector"), torch.no_grad():
            detections = copy.deepcopy(pruned).get_submodule("detector")(images)
        facts["detections"] = len(detections[0]["boxes"])
    return pruned


def output_layers(network: nn.Module, inputs: tuple[Tensor, ...]) -> list[nn.Module]:
    """Find the layers whose output reaches an output of the network without another layer in between.

    The library must be told about them, or it would prune the class scores.
    """
    owners = {
        id(parameter): layer
        for layer in network.modules()
        if isinstance(layer, _LAYERS)
        for parameter in layer.parameters(recurse=False)
        if parameter.ndim > 1
    }
    with torch.enable_grad():
        leaves = [leaf for leaf in pytree.tree_leaves(network(*inputs)) if isinstance(leaf, Tensor)]
    todo: list[Any] = [leaf.grad_fn for leaf in leaves if leaf.grad_fn is not None]
    seen: set[Any] = set()
    last: dict[int, nn.Module] = {}
    while todo:
        node = todo.pop()
        if node in seen:
            continue
        seen.add(node)
        ahead = [step for step, _ in node.next_functions if step is not None]
        weights = [*_parameters(ahead), *(p for step in ahead for p in _parameters(_next(step)))]
        layers = [owners[id(parameter)] for parameter in weights if id(parameter) in owners]
        if layers and _is_layer(node):
            last.update({id(layer): layer for layer in layers})
        else:
            todo += ahead
    return list(last.values())


def _is_layer(node: Any) -> bool:
    return any(word in node.name() for word in ("Convolution", "Addmm", "Mm", "Bmm", "Linear"))


def _next(node: Any) -> list[Any]:
    """Return the nodes behind a transposed or viewed weight."""
    through = node.name() in {"TBackward0", "UnsafeViewBackward0", "ViewBackward0", "ExpandBackward0"}
    return [step for step, _ in node.next_functions if step is not None] if through else []


def _parameters(nodes: list[Any]) -> list[Tensor]:
    return [node.variable for node in nodes if hasattr(node, "variable")]


def _heads(network: nn.Module) -> tuple[dict[nn.Module, int], dict[nn.Module, int]]:
    """Return the head counts of query, key and value layers, and of torch's own attention layers."""
    heads: dict[nn.Module, int] = {}
    groups: dict[nn.Module, int] = {}
    for layer in network.modules():
        if isinstance(layer, nn.MultiheadAttention):
            groups[layer] = layer.num_heads
        elif isinstance(count := getattr(layer, "num_heads", None), int):
            for name in ("qkv", "q", "k", "v", "kv"):
                part = getattr(layer, name, None)
                if isinstance(part, nn.Linear):
                    heads[part] = count
    return heads, groups


def _pyramid_and_boxes(network: nn.Module) -> list[nn.Module]:
    """Return the layers of an R-CNN that the library's example leaves alone: feature pyramid and box heads."""
    detector: Any = getattr(network, "detector", None)
    if not hasattr(detector, "roi_heads"):
        return []
    parts = (detector.backbone.fpn, detector.roi_heads)
    return [layer for part in parts for layer in part.modules() if isinstance(layer, _LAYERS)]


def _update_attributes(network: nn.Module) -> None:
    """Update the sizes that layers repeat in attributes, as the library's examples do."""
    for layer in network.modules():
        held: Any = layer
        if isinstance(getattr(held, "qkv", None), nn.Linear) and isinstance(getattr(held, "num_heads", None), int):
            width = held.qkv.out_features // 3
            updates: dict[str, int] = {
                "head_dim": width // held.num_heads,
                "attn_dim": width,
                "output_dim": width,
                "all_head_dim": width,
            }
            for name, value in updates.items():
                if isinstance(getattr(held, name, None), int):
                    setattr(held, name, value)
        if isinstance(getattr(held, "conv_proj", None), nn.Conv2d) and isinstance(
            getattr(held, "hidden_dim", None), int
        ):
            held.hidden_dim = held.conv_proj.out_channels
