"""Least-squares reconstruction: layers that lost inputs are fitted to their outputs in the dense network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from pruners.errors import MethodError
from pruners.forms.masking import graph_of
from pruners.reconstruct.imitation import imitation_of
from pruners.reconstruct.layer_fit import sample_fits
from pruners.reconstruct.readers import layers_among, parameters_behind

if TYPE_CHECKING:
    from pruners.plan import PruningPlan

__all__ = ["FittedLayer", "Reconstruction", "reconstruct"]

_WHO = "reconstruction"


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedLayer:
    """A layer that was fitted.

    Parameters
    ----------
    weight : str
        Name of its weight.
    rows : int
        Number of samples.
    error_before, error_after : float
        ``||Y - Y'|| / ||Y||`` on the samples, with Y the outputs of the layer in the dense network.
    """

    weight: str
    rows: int
    error_before: float
    error_after: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconstruction:
    """What was reconstructed.

    Parameters
    ----------
    layers : tuple of FittedLayer
        In the order of the network.
    left : tuple of str
        Weights that lost inputs but were left unchanged, as they do not belong to a plain convolution or linear layer.
    lr : None
        Learning rate: no weight is trained by gradients.
    """

    layers: tuple[FittedLayer, ...]
    left: tuple[str, ...] = ()
    lr: None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def reconstruct(
    dense: nn.Module,
    compact: nn.Module,
    plan: PruningPlan,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    images: int = 1000,
    positions: int = 10,
    ridge: float = 1e-3,
    residual: bool = True,
    seed: int = 0,
) -> Reconstruction:
    """Compensate any choice of channels: fit the compact network's weights in place, layer by layer, without training.

    Each layer that lost inputs is fitted by least squares to its outputs in the dense network, from the inputs it gets
    in the compact one as fitted so far. This is the second step of He et al. 2017 by itself
    (`pruners.methods.regression`); AMC (He et al., ECCV 2018) uses it the same way.

    Parameters
    ----------
    dense : Module
        The network that `plan` was made for; not modified.
    compact : Module
        Cut by `plan`, from `dense` or from a trained copy. Only weights, and biases where there are any, of plain
        convolutions and linear layers are changed.
    plan : PruningPlan
        The plan `compact` was cut by.
    batches : iterable of (inputs, labels)
        Of the training data; restarted when it ends (a list, a DataLoader), or endless.
    images : int
        Number of examples each layer is fitted on.
    positions : int
        Positions of a layer's output per example, on average.
    ridge : float
        Keeps the weights near their current values, and the fit stable; see `pruners.reconstruct.least_squares.refit`.
    residual : bool
        Whether the last layer of a residual branch compensates for what the shortcut lost.
    seed : int
        Determines the positions.

    Raises
    ------
    PlanError
        The plan was made for another network.
    MethodError
        The batches end too early, or no plain layer lost inputs.
    """
    theirs = graph_of(dense, plan)
    theirs.check(plan)
    ours = graph_of(compact, plan)
    readers, left = layers_among(ours, parameters_behind(theirs, plan))
    if not readers:
        raise MethodError(f"{_WHO}: no plain convolution or linear layer lost inputs, there is nothing to fit")
    source, layers = _again_and_again(batches), []
    for reader in readers:
        imitation = imitation_of(theirs, ours, reader, gone=plan, residual=residual)
        (fit,) = sample_fits(compact, [imitation], source, images=images, positions=positions, seed=seed, who=_WHO)
        fitted = fit.apply_(torch.ones(fit.inputs.shape[1], dtype=torch.bool), ridge)
        size = fitted.size or 1.0
        layers.append(
            FittedLayer(
                weight=reader.weight,
                rows=len(fit.inputs),
                error_before=fitted.before / size,
                error_after=fitted.after / size,
            )
        )
    return Reconstruction(layers=tuple(layers), left=left)


def _again_and_again(batches: Iterable[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
    some = True
    while some:
        some = False
        for batch in batches:
            some = True
            yield batch
