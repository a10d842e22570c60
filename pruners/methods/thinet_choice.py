"""ThiNet's choice of units: those that reproduce the next layer's outputs best, and the scales of its weights.

Imports torch, so the method imports this module only when it starts to work.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor

from pruners.forms.slicing import tensor_named
from pruners.methods.loops.layerwise import Chosen, Layer
from pruners.reconstruct.contributions import owners, scalar_contributions
from pruners.reconstruct.greedy import keep_greedily, relative_error, remove_greedily, scales
from pruners.reconstruct.imitation import positions_of
from pruners.reconstruct.samples import Wanted, sample

__all__ = ["choose_by_error"]


def choose_by_error(
    layer: Layer,
    batches: Iterator[tuple[Tensor, Tensor]],
    *,
    form: Literal["iccv", "tpami"],
    scale: bool,
    images: int,
    positions: int,
    seed: int,
    who: str,
) -> Chosen:
    """Choose units, and scale the weights that read the kept ones.

    Parameters
    ----------
    layer : Layer
        The layer whose units are chosen.
    batches : iterator of (Tensor, Tensor)
        Inputs (n, ...) and labels of training batches.
    form : {"iccv", "tpami"}
        Remove greedily, or keep greedily.
    scale : bool
        Scale the weights of the layer's readers, in place.
    images, positions : int
        Number of sampled examples, and of positions in each.
    seed : int
        Seed for sampling positions and filters.
    who : str
        Name of the method, for messages.
    """
    n_units = layer.group.n_units
    rows = sample(
        [Wanted(graph=layer.present, reader=reader, what="inputs") for reader in layer.readers],
        batches,
        images=images,
        positions=positions,
        seed=seed,
        who=who,
    )
    draw = torch.Generator().manual_seed(seed)
    grams = []
    for reader, inputs in zip(layer.readers, rows, strict=True):
        weight = tensor_named(layer.model, reader.weight).detach().cpu()
        masked = positions_of(layer.present, layer.masked, reader.weight).get(0, ())
        there = torch.tensor([place for place in range(len(weight)) if place not in set(masked)])
        filters = weight.flatten(1)[there[torch.randint(len(there), (len(inputs),), generator=draw)]]
        x = scalar_contributions(inputs, filters, owners(reader, weight), n_units)
        grams.append(x.T @ x)
    gram = torch.stack(grams).sum(0)
    if form == "iccv":
        removed = remove_greedily(gram, n_units - layer.n_kept)
        kept = tuple(unit for unit in range(n_units) if unit not in removed)
    else:
        kept = tuple(sorted(keep_greedily(gram, layer.n_kept)))
    facts = {"rows": sum(map(len, rows)), "error": relative_error(gram, kept)}
    if scale:
        left = 0.0
        for reader, own in zip(layer.readers, grams, strict=True):
            factors = scales(own, kept)
            left += relative_error(own, kept, factors) ** 2 * own.sum().item()
            _scale_inputs(tensor_named(layer.model, reader.weight), reader.units, kept, factors)
        whole = gram.sum().item()
        facts["error_scaled"] = (left / whole) ** 0.5 if whole > 0 else 0.0
    return Chosen(kept=kept, facts=facts)


def _scale_inputs(weight: Tensor, units: tuple[tuple[int, ...], ...], kept: tuple[int, ...], factors: Tensor) -> None:
    """Multiply the input channels of the kept units, in place."""
    with torch.no_grad():
        each = torch.ones(weight.shape[1], dtype=torch.float64)
        for unit, factor in zip(kept, factors.tolist(), strict=True):
            each[list(units[unit])] = factor
        weight.mul_(each.to(weight).reshape(1, -1, *[1] * (weight.ndim - 2)))
