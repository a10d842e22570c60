"""Choice of units by LASSO, and least-squares fit of the weights that read them.

Imports torch, so the method imports this module only when it starts to work.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from pruners.methods.loops.layerwise import Chosen, Layer
from pruners.reconstruct.imitation import imitation_of
from pruners.reconstruct.lasso import lasso_units
from pruners.reconstruct.layer_fit import sample_fits

__all__ = ["choose_by_lasso"]


def choose_by_lasso(
    layer: Layer,
    batches: Iterator[tuple[Tensor, Tensor]],
    *,
    images: int,
    positions: int,
    ridge: float,
    residual: bool,
    seed: int,
    who: str,
) -> Chosen:
    """Choose units, and fit the weights that read the kept ones.

    Parameters
    ----------
    layer : Layer
        The layer whose units are chosen; the weights of its readers are fitted in place.
    batches : iterator of (Tensor, Tensor)
        Inputs (n, ...) and labels of training batches.
    images, positions : int
        Number of sampled examples, and of positions in each on average.
    ridge : float
        Ridge of the least squares, in units of the inputs' mean square.
    residual : bool
        Whether the last layer of a residual branch makes up for the shortcut's error.
    seed : int
        Seed for sampling positions.
    who : str
        Name of the method, for messages.
    """
    fits = sample_fits(
        layer.model,
        [
            imitation_of(
                layer.dense,
                layer.present,
                reader,
                gone=layer.gone,
                masked=layer.masked,
                residual=residual,
            )
            for reader in layer.readers
        ],
        batches,
        images=images,
        positions=positions,
        seed=seed,
        who=who,
    )
    moments = [fit.moments(layer.group.n_units) for fit in fits]
    gram, cross = (sum(parts[1:], parts[0]) for parts in zip(*moments, strict=True))
    n_rows = sum(len(fit.inputs) for fit in fits)
    lasso = lasso_units(gram, cross, n_rows, layer.n_kept)
    refits = [fit.apply_(fit.columns(lasso.kept), ridge) for fit in fits]
    size = sum(refit.size**2 for refit in refits) or 1.0
    return Chosen(
        kept=lasso.kept,
        facts={
            "rows": n_rows,
            "penalty": lasso.penalty,
            "filled": lasso.filled,
            "error_chosen": (sum(refit.before**2 for refit in refits) / size) ** 0.5,
            "error": (sum(refit.after**2 for refit in refits) / size) ** 0.5,
            "lr": None,
        },
    )
