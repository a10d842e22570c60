"""`Scores`, and pure functions on them: the FLOPs term, and the check that all are finite."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from math import isfinite

from pruners.errors import MethodError

__all__ = ["Scores", "flops_regularise", "marginal_mflops", "require_finite"]

Scores = dict[str, tuple[float, ...]]


def flops_regularise(
    scores: Mapping[str, tuple[float, ...]], unit_mflops: Mapping[str, float], strength: float
) -> Scores:
    """Subtract ``strength * unit_mflops[group]`` from each score: of two equal units the more expensive goes first.

    Parameters
    ----------
    scores : Mapping of str to tuple of float
        Normalised scores.
    unit_mflops : Mapping of str to float
        Cost of one unit of each group, in millions of FLOPs for one example (a MAC is two).
    strength : float
        lambda of the paper, which uses 1e-3.

    References
    ----------
    Molchanov et al., ICLR 2017, arXiv:1611.06440, section 2.2 (FLOPs regularisation).
    """
    return {name: tuple(value - strength * unit_mflops[name] for value in values) for name, values in scores.items()}


def marginal_mflops(
    macs: Callable[[Mapping[str, int]], int], counts: Mapping[str, int], names: Iterable[str]
) -> dict[str, float]:
    """Return what removing one unit of each named group saves, in millions of FLOPs for one example.

    ``2 * (macs(counts) - macs(counts with one unit less)) / 1e6``: the unit's own filters, and the kernels that read
    its map. The paper counts the filter alone, ``2*H*W*(Cin*K^2 + 1) / 1e6``.

    Parameters
    ----------
    macs : callable
        Multiply-accumulates of the network whose groups keep the given numbers of units, such as `Graph.macs`.
    counts : Mapping of str to int
        Present units of each group; at least 2 for each of `names`.
    names : iterable of str
        Names of the groups.
    """
    present = macs(counts)
    return {name: 2 * (present - macs({**counts, name: counts[name] - 1})) / 1e6 for name in names}


def require_finite(scores: Mapping[str, tuple[float, ...]], who: str) -> None:
    """Check that every score is finite.

    Raises
    ------
    MethodError
        A score is NaN or infinite, as with weights or gradients that have overflowed.
    """
    for name, values in scores.items():
        bad = next((unit for unit, value in enumerate(values) if not isfinite(value)), None)
        if bad is not None:
            raise MethodError(
                f"{who}: unit {bad} of group {name!r} scores {values[bad]}; the network's weights, its activations or "
                "the loss are not finite"
            )
