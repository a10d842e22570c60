"""Build an entry of the catalogue as two torch modules with random weights: dense parent and pruned network.

A pruned parent is made by our own engine (a plan, then `pruners.surgery.apply`); networks with removed blocks or other
heads are built directly.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from math import floor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from deploy.exporting.export import export_onnx
from deploy.sources.network import build
from deploy.sources.network_spec import NetworkSpec
from deploy.studies.published.catalogue import (
    CatalogueEntry,
    CatalogueError,
    Counts,
    Network,
    Pair,
    Ratios,
    load_catalogue,
)
from deploy.studies.published.export import LABELS
from deploy.studies.published.networks import BUILDERS
from pruners.graph import Graph, trace
from pruners.groups import ChannelGroup
from pruners.plan import PruningPlan
from pruners.surgery import apply

__all__ = [
    "build_dense",
    "build_pair",
    "check_counts",
    "count",
    "example",
    "export_pair",
    "kept_counts",
    "plan_of",
    "prune",
]

_SEED = 0
_TRACED_BATCH = 2


def export_pair(name: str, folder: str) -> None:
    """Build a network of the catalogue and its parent, and write them as ONNX files with a free batch dimension.

    Called in a child process by `deploy.studies.published.export`.

    Raises
    ------
    CatalogueError, ExportError
        Their counts differ from the catalogue, or they cannot be exported.
    """
    (entry,) = load_catalogue().select((name,))
    for label, network in zip(LABELS, build_pair(entry), strict=True):
        export_onnx(network, example(entry.parent), Path(folder, f"{label}.onnx"))


def build_dense(network: Network) -> nn.Module:
    """Build a network of the catalogue in evaluation mode, with fixed random weights.

    Raises
    ------
    CatalogueError
        The builder is missing or refuses the options.
    SourceError, ExtraMissingError
        See `deploy.sources.network.build`.
    """
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(_SEED)
        if not network.name.startswith("published:"):
            spec = NetworkSpec(name=network.name, options=network.options)
            return build(spec, n_classes=network.classes, input_shape=network.input_shape).eval()
        if network.name not in BUILDERS:
            raise CatalogueError(f"there is no network {network.name!r}; there are {', '.join(BUILDERS)}")
        make: Any = BUILDERS[network.name]
        try:
            module: nn.Module = make(**network.options)
        except (TypeError, ValueError) as error:
            raise CatalogueError(f"{network.name} with {network.options}: {error}") from error
        return module.eval()


def example(network: Network, batch: int = _TRACED_BATCH) -> tuple[Tensor]:
    """Draw one batch of images from a fixed seed."""
    generator = torch.Generator().manual_seed(_SEED)
    return (torch.randn(batch, *network.input_shape, generator=generator),)


def build_pair(entry: CatalogueEntry) -> tuple[nn.Module, nn.Module]:
    """Build the parent and the pruned network, and check their counts against the catalogue.

    Raises
    ------
    CatalogueError
        The entry names layers that the parent lacks or counts that it cannot keep, or the resulting counts differ.
    TraceError, PlanError, SurgeryError
        The engine cannot prune the parent.
    """
    dense = build_dense(entry.parent)
    pruned = build_dense(entry.network) if entry.network is not None else prune(entry, dense)
    check_counts(entry, dense, pruned)
    return dense, pruned


def prune(entry: CatalogueEntry, dense: nn.Module, *, graph: Graph | None = None) -> nn.Module:
    """Prune `dense` to the entry's channels, keeping the first ones of each layer: speed does not depend on which.

    Parameters
    ----------
    graph : Graph, optional
        Graph of `dense`, if known.
    """
    graph = trace(dense, example(entry.parent)) if graph is None else graph
    # Random weights: `check_counts` finds wrong shapes, and the export runs the network.
    return apply(dense, plan_of(entry, graph), graph=graph, check=False).eval()


def plan_of(entry: CatalogueEntry, graph: Graph) -> PruningPlan:
    """Return the entry as a plan for its parent.

    Raises
    ------
    CatalogueError
        See `kept_counts`.
    """
    counts = kept_counts(entry, graph.groups)
    return PruningPlan.from_kept(
        {name: tuple(range(kept)) for name, kept in counts.items()},
        {group.name: group.n_units for group in graph.groups},
        graph=graph.fingerprint,
        inputs=graph.inputs,
        call=graph.call,
        method="published",
        settings={"entry": entry.name, "paper": entry.paper, "source": entry.source},
        policy=graph.policy,
    )


def kept_counts(entry: CatalogueEntry, groups: Sequence[ChannelGroup]) -> dict[str, int]:
    """Return the number of channels each group keeps: as listed, or by the shares of `Ratios`.

    Raises
    ------
    CatalogueError
        A pattern matches no layer, two give one layer different counts, or a layer has fewer channels.
    """
    units = {group.name: group.n_units for group in groups}
    if entry.ratios is not None:
        return _by_ratios(entry, entry.ratios, units)
    counts: dict[str, int] = {}
    for pattern, kept in (entry.kept or {}).items():
        for name in _matching(entry, pattern, units):
            if counts.setdefault(name, kept) != kept:
                raise CatalogueError(f"{entry.name}: {name!r} is to keep {counts[name]} and {kept} channels")
            if kept > units[name]:
                raise CatalogueError(f"{entry.name}: {name!r} has {units[name]} channels and is to keep {kept}")
    return counts


def _by_ratios(entry: CatalogueEntry, ratios: Ratios, units: Mapping[str, int]) -> dict[str, int]:
    whole = {name for pattern in ratios.whole for name in _matching(entry, pattern, units)}
    counts: dict[str, int] = {}
    for pattern, removed in ratios.removed.items():
        for name in _matching(entry, pattern, units):
            # 1e-9: 10 * (1 - 0.9) is 0.9999999999999998 in floating point, but one channel is meant.
            kept = units[name] if name in whole else floor(units[name] * (1 - removed) + 1e-9)
            if counts.setdefault(name, kept) != kept:
                raise CatalogueError(f"{entry.name}: {name!r} is named by two patterns with different shares")
    return counts


def _matching(entry: CatalogueEntry, pattern: str, units: Mapping[str, int]) -> list[str]:
    names = [name for name in units if fnmatchcase(name, pattern)]
    if not names:
        raise CatalogueError(f"{entry.name}: no layer of {entry.parent.name} is called {pattern!r}")
    return names


def count(module: nn.Module, network: Network) -> Counts:
    """Count parameters, and the MACs of convolutions and linear layers for one image, without computing.

    A copy runs on the meta device, which only propagates shapes. Biases, norms and activations have no MACs.
    """
    twin = copy.deepcopy(module).to("meta").eval()
    macs = 0

    def add(layer: Any, _: object, output: Tensor) -> None:
        nonlocal macs
        macs += output.numel() * layer.weight[0].numel()

    for layer in twin.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(add)
    with torch.no_grad():
        twin(torch.empty(1, *network.input_shape, device="meta"))
    return Counts(parameters=sum(parameter.numel() for parameter in module.parameters()), macs=macs)


def check_counts(entry: CatalogueEntry, dense: nn.Module, pruned: nn.Module) -> None:
    """Refuse networks whose counts differ from the catalogue.

    Raises
    ------
    CatalogueError
        A count differs, even by one.
    """
    pair = Pair(dense=count(dense, entry.parent), pruned=count(pruned, entry.network or entry.parent))
    for label in ("dense", "pruned"):
        have, want = getattr(pair, label), getattr(entry.counts, label)
        if have != want:
            raise CatalogueError(
                f"{entry.name}: the {label} network has {have.parameters} parameters and {have.macs} MACs, the "
                f"catalogue says {want.parameters} and {want.macs}"
            )
