"""Seeded, stratified choices of images: for validation, for test, or for a smaller subset."""

from __future__ import annotations

import hashlib
from enum import IntEnum

import numpy as np
import numpy.typing as npt

__all__ = ["Draw", "indices_sha256", "stratified"]

Indices = npt.NDArray[np.int64]


class Draw(IntEnum):
    """What a choice is for; each has its own random numbers, so that one does not change with another."""

    TEST = 1
    VALIDATION = 2
    LIMIT_TRAIN = 3
    LIMIT_VALIDATION = 4
    LIMIT_TEST = 5
    STATISTICS = 6


def stratified(
    labels: Indices, n: int, *, seed: int, draw: Draw, leave: int = 0, at_least: int = 0
) -> tuple[Indices, Indices]:
    """Choose `n` positions so that the classes keep their shares in `labels` (largest remainder).

    Parameters
    ----------
    labels : ndarray of shape (n_images,), dtype int64
        Class of each image.
    n : int
        How many to choose.
    seed : int
        At least 0. The same numbers come out on every machine and NumPy version: only the raw bits of PCG64 are used.
    draw : Draw
        What the choice is for.
    leave, at_least : int
        Least number of images of each class that are not chosen, or chosen.

    Returns
    -------
    chosen, rest : ndarray of int64
        Disjoint, sorted, together all positions.

    Raises
    ------
    ValueError
        `n` images cannot be chosen within these bounds.
    """
    classes, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
    low, high = np.full_like(counts, at_least), counts - leave
    if n < low.sum() or n > high.sum() or (low > high).any():
        raise ValueError(
            f"cannot choose {n} of {len(labels)} images in {len(classes)} classes: possible are {low.sum()} to "
            f"{high.sum()}"
        )
    quotas = n * counts / len(labels)
    taken = np.clip(np.floor(quotas).astype(counts.dtype), low, high)
    while (short := n - int(taken.sum())) != 0:
        step = 1 if short > 0 else -1
        owed = (
            np.where(taken < high, quotas - taken, -np.inf)
            if step > 0
            else np.where(taken > low, taken - quotas, -np.inf)
        )
        taken[int(np.argmax(owed))] += step
    keys = np.random.PCG64(np.random.SeedSequence([seed, int(draw)])).random_raw(len(labels))
    order = np.lexsort((keys, inverse))
    rank = np.empty(len(labels), dtype=np.int64)
    rank[order] = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    chosen = rank < taken[inverse]
    return np.flatnonzero(chosen).astype(np.int64), np.flatnonzero(~chosen).astype(np.int64)


def indices_sha256(indices: Indices) -> str:
    """Hash positions, in order (as little-endian int64)."""
    return hashlib.sha256(indices.astype("<i8").tobytes()).hexdigest()
