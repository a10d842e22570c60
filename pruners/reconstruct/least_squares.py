"""Least-squares fit of a layer's weights to target outputs for its current inputs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Refit", "refit"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refit:
    """New weights of a layer.

    Parameters
    ----------
    weight : Tensor
        Shape (out, columns), float64.
    bias : Tensor or None
        Shape (out,), float64.
    size, before, after : float
        On the samples: ``||Y||``, and ``||Y - Y'||`` with the old and with the new weights.
    """

    weight: Tensor
    bias: Tensor | None
    size: float
    before: float
    after: float


def refit(inputs: Tensor, target: Tensor, weight: Tensor, bias: Tensor | None, *, ridge: float) -> Refit:
    """Minimise ``||Y - X W^T - b||^2 + ridge * s * ||W - W_0||^2`` over W, and over b if there is one.

    W_0 is the current weight, so that whatever the samples do not determine is unchanged; s is the mean squared norm of
    a column of X, which makes `ridge` dimensionless. With `ridge` 0: the solution nearest to W_0.

    Parameters
    ----------
    inputs : Tensor
        X, shape (rows, columns).
    target : Tensor
        Y, shape (rows, out); its bias included.
    weight : Tensor
        W_0, shape (out, columns).
    bias : Tensor or None
        Shape (out,).
    ridge : float
        0 or more.
    """
    x, start = inputs.double(), weight.double()
    missing = target.double() - x @ start.T
    size = target.double().norm().item()
    offset = None if bias is None else bias.double()
    before = (missing if offset is None else missing - offset).norm().item()
    centre = torch.zeros(x.shape[1], dtype=torch.float64)
    mean = torch.zeros(len(start), dtype=torch.float64)
    if offset is not None:
        centre, mean = x.mean(0), missing.mean(0)
        x, missing = x - centre, missing - mean
    change = _solve(x, missing, ridge * x.square().sum().item() / max(1, x.shape[1]))
    after = (missing - x @ change).norm().item()
    return Refit(
        weight=start + change.T,
        bias=None if offset is None else mean - centre @ change,
        size=size,
        before=before,
        after=after,
    )


def _solve(x: Tensor, y: Tensor, penalty: float) -> Tensor:
    """Solve for the change of the weights, over columns or rows, whichever are fewer."""
    if not penalty:
        solution: Tensor = torch.linalg.lstsq(x, y, driver="gelsd").solution
        return solution
    if x.shape[1] <= len(x):
        inner = x.T @ x
        inner.diagonal().add_(penalty)
        return torch.cholesky_solve(x.T @ y, torch.linalg.cholesky(inner))
    inner = x @ x.T
    inner.diagonal().add_(penalty)
    return x.T @ torch.cholesky_solve(y, torch.linalg.cholesky(inner))
