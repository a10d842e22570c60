"""`LayerFit`: a layer of a smaller network, with samples of its inputs and their target outputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pruners.forms.slicing import tensor_named
from pruners.importance.evidence import Batch
from pruners.reconstruct.contributions import contribution_moments, owners
from pruners.reconstruct.imitation import Imitation
from pruners.reconstruct.least_squares import Refit, refit
from pruners.reconstruct.readers import Reader
from pruners.reconstruct.samples import sample

__all__ = ["LayerFit", "sample_fits"]


@dataclass(frozen=True, eq=False)
class LayerFit:
    """A layer with samples of its inputs and the target outputs.

    Parameters
    ----------
    reader : Reader
        The layer.
    weight, bias : Tensor
        Its parameters; the bias is None unless it has one of its own.
    inputs : Tensor
        X, shape (rows, in * kernel), float32 on the CPU.
    target : Tensor
        Y, shape (rows, out), float64 on the CPU; minus a bias that is shared with other layers.

    A masked output has a target of 0, and its fit is 0.
    """

    reader: Reader
    weight: Tensor
    bias: Tensor | None
    inputs: Tensor
    target: Tensor

    def moments(self, n_units: int) -> tuple[Tensor, Tensor]:
        """Return ``<Z_i, Z_j>`` and ``<Z_i, Y>`` of the units' contributions; see `contribution_moments`.

        The contributions of other groups' channels are subtracted from Y. If the layer has a bias, means are removed.
        """
        weight, x, y = self.weight.detach().cpu().flatten(1).double(), self.inputs.double(), self.target
        if self.bias is not None:
            x, y = x - x.mean(0), y - y.mean(0)
        owner = owners(self.reader, self.weight)
        others = owner < 0
        return contribution_moments(x, weight, owner, n_units, y - x[:, others] @ weight[:, others].T)

    def columns(self, kept: Sequence[int]) -> Tensor:
        """Return for each column of the flattened weight whether it stays if the group keeps only the units `kept`."""
        owner = owners(self.reader, self.weight)
        return (owner < 0) | torch.isin(owner, torch.tensor(list(kept)))

    def apply_(self, columns: Tensor, ridge: float) -> Refit:
        """Fit the weights of `columns`, and the bias, in place; the other weights become 0."""
        flat = self.weight.detach().cpu().flatten(1)
        bias = None if self.bias is None else self.bias.detach().cpu()
        fitted = refit(self.inputs[:, columns], self.target, flat[:, columns], bias, ridge=ridge)
        new = torch.zeros(flat.shape, dtype=torch.float64)
        new[:, columns] = fitted.weight
        with torch.no_grad():
            self.weight.copy_(new.reshape(self.weight.shape))
            if self.bias is not None and fitted.bias is not None:
                self.bias.copy_(fitted.bias)
        return fitted


def sample_fits(
    model: nn.Module,
    imitations: Sequence[Imitation],
    batches: Iterator[Batch],
    *,
    images: int,
    positions: int,
    seed: int,
    who: str,
) -> list[LayerFit]:
    """Sample layers of `model` and the layers they imitate, in one pass; see `sample` for the arguments."""
    wanted = [item for imitation in imitations for item in imitation.wanted]
    rows = sample(wanted, batches, images=images, positions=positions, seed=seed, who=who)
    fits, start = [], 0
    for imitation in imitations:
        own = rows[start : start + len(imitation.wanted)]
        start += len(imitation.wanted)
        reader, target = imitation.reader, imitation.target(own)
        bias = None if reader.bias is None else tensor_named(model, reader.bias)
        if bias is not None and reader.shared_bias:
            target = target - bias.detach().double().cpu()
            bias = None
        fits.append(LayerFit(reader, tensor_named(model, reader.weight), bias, imitation.inputs(own), target))
    return fits
