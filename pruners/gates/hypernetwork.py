"""Parametrization of a layer's weight by a hypernetwork that generates it from latent vectors."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

__all__ = ["HyperNetwork", "generate_weight", "plain_weight"]

_WEIGHT = "weight"


class HyperNetwork(nn.Module):
    """Generates the weight of a convolution or linear layer from the latents of its first two axes.

    For positions i and j along these axes, and the K = kernel positions of each pair::

        Z_ij = z0_i * z1_j + B0_ij              latent layer
        E_ij = Z_ij * w1_ij + b1_ij             embedding layer, in R^m
        O_ij = W2_ij E_ij + b2_ij               explicit layer, in R^K

    and the weight is O, reshaped. ``b2`` is the parametrized tensor itself: the layer's own parameter.

    Parameters
    ----------
    weight : Tensor of shape (n0, n1, ...)
        The layer's weight; not changed.
    shared : Parameter of shape (n_shared,)
        Latents of all groups. Used but not owned: this module adds it to no ``state_dict``.
    axes : pair of sequence of int
        For each position along axes 0 and 1, the entry of `shared` that is its latent, or -1 for a latent of its own
        (`own`), which no other layer shares and which is not pruned.
    fan_in : int
        Number of weights per output.
    embedding : int
        m.
    generator : torch.Generator
        Draws, on the CPU: latents from N(0, 1), w1 from U(-sqrt(3), sqrt(3)), W2 from U(-a, a) with
        ``a = sqrt(3 / (m * fan_in))``, so that the generated weight has variance ``1 / fan_in`` (hyperfan-in, Chang et
        al. 2020); B0 and b1 are zero.
    carried : bool
        Start with ``W2_ij = weight_ij w1_ij^T / |w1_ij|^2`` and latents of one instead: with ``z = 1`` everywhere and
        ``b2 = 0`` the generated weight is the given one.
    """

    rows: Tensor
    columns: Tensor

    def __init__(
        self,
        weight: Tensor,
        shared: nn.Parameter,
        axes: tuple[Sequence[int], Sequence[int]],
        *,
        fan_in: int,
        embedding: int,
        generator: torch.Generator,
        carried: bool,
    ) -> None:
        super().__init__()
        first, second = (len(axis) for axis in axes)
        kernel = math.prod(weight.shape[2:])

        def uniform(bound: float, *shape: int) -> Tensor:
            return (torch.rand(*shape, generator=generator) * 2 - 1) * bound

        own = torch.randn(sum(entry < 0 for axis in axes for entry in axis), generator=generator)
        w1 = uniform(math.sqrt(3), first, second, embedding)
        w2 = uniform(math.sqrt(3 / (embedding * fan_in)), first, second, kernel, embedding)
        if carried:
            own = torch.ones_like(own)
            given = weight.detach().cpu().float().reshape(first, second, kernel, 1)
            w2 = given * (w1 / w1.square().sum(-1, keepdim=True)).unsqueeze(2)
        self.own = nn.Parameter(own.to(weight))
        self.offset = nn.Parameter(torch.zeros(first, second).to(weight))
        self.w1 = nn.Parameter(w1.to(weight))
        self.b1 = nn.Parameter(torch.zeros_like(w1).to(weight))
        self.w2 = nn.Parameter(w2.to(weight))
        # A tuple hides the latents from module registration: they belong to the gate.
        self._shared = (shared,)
        entries = [torch.tensor(axis, dtype=torch.long) for axis in axes]
        own_at = len(shared)
        for entry in entries:
            free = entry < 0
            entry[free] = torch.arange(own_at, own_at + int(free.sum()))
            own_at += int(free.sum())
        self.register_buffer("rows", entries[0].to(weight.device), persistent=False)
        self.register_buffer("columns", entries[1].to(weight.device), persistent=False)

    def forward(self, original: Tensor) -> Tensor:
        """Return the generated weight; `original` is b2."""
        latents = torch.cat([self._shared[0], self.own])
        z = torch.outer(latents[self.rows], latents[self.columns]) + self.offset
        embedded = z.unsqueeze(-1) * self.w1 + self.b1
        # Elementwise products and sums instead of small matrix products: faster, and not rounded by autocast.
        explicit = (self.w2 * embedded.unsqueeze(-2)).sum(-1)
        return original + explicit.reshape(original.shape)


def generate_weight(layer: nn.Module, hypernetwork: HyperNetwork) -> None:
    """Let `hypernetwork` generate the weight of `layer`; b2, the layer's own parameter, starts at zero."""
    weight = layer._parameters[_WEIGHT]
    assert weight is not None
    with torch.no_grad():
        weight.zero_()
    parametrize.register_parametrization(layer, _WEIGHT, hypernetwork)


def plain_weight(layer: nn.Module) -> None:
    """Replace the hypernetwork of `layer` by the generated weight, first among the layer's parameters."""
    made = type(layer)
    # torch deletes the generated attribute from the layer's class, which copies of the network share.
    keep = {name: value for name, value in vars(made).items() if name not in ("__dict__", "__weakref__")}
    layer.__class__ = type(made.__name__, made.__bases__, keep)
    parametrize.remove_parametrizations(layer, _WEIGHT, leave_parametrized=True)
    others = [name for name in layer._parameters if name != _WEIGHT]
    for name in others:
        layer._parameters[name] = layer._parameters.pop(name)
