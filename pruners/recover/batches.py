"""Batches in an order determined by the seed and the epoch alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, TensorDataset, default_collate

__all__ = [
    "EndlessBatches",
    "Examples",
    "epoch_batches",
    "epoch_seed",
    "n_batches",
    "ordered_batches",
    "seeded",
]

Examples = Dataset[tuple[Tensor, int]]
_Batch = tuple[Tensor, Tensor]


@runtime_checkable
class _Batched(Protocol):
    """A data set that gives a whole batch at once: one indexing call instead of one per example."""

    def batch(self, indices: Sequence[int]) -> _Batch: ...


class _Fetch(Dataset[Any]):
    """Gives DataLoader whole batches, in the fastest way the data set offers."""

    def __init__(self, data: Dataset[Any]) -> None:
        self._data = data

    def __getitems__(self, indices: list[int]) -> _Batch:
        data = self._data
        if isinstance(data, _Batched):
            return data.batch(indices)
        if isinstance(data, TensorDataset):
            images, labels = data[indices]
            return images, labels
        fetch = getattr(data, "__getitems__", None)
        rows = [data[index] for index in indices] if fetch is None else fetch(indices)
        images, labels = default_collate(rows)
        return images, labels


class _Slices(Sampler[list[int]]):
    def __init__(self, order: list[int], batch_size: int) -> None:
        self._order = order
        self._batch_size = batch_size

    def __iter__(self) -> Iterator[list[int]]:
        for start in range(0, len(self._order), self._batch_size):
            yield self._order[start : start + self._batch_size]


def _whole(batch: Any) -> Any:
    return batch


def _length(data: Dataset[Any]) -> int:
    return len(data)  # type: ignore[arg-type]  # torch's Dataset leaves __len__ to its subclasses


def n_batches(data: Dataset[Any], batch_size: int) -> int:
    """Count the batches of one shuffled epoch; a smaller last batch is dropped unless it is the only one."""
    return max(1, _length(data) // batch_size)


def epoch_seed(seed: int, epoch: int) -> int:
    """Mix seed and epoch into one 63-bit seed."""
    return (seed * 0x9E3779B97F4A7C15 + epoch * 0xBF58476D1CE4E5B9 + 1) % 2**63


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's CPU generator while the block runs, and restore its state afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


class EndlessBatches:
    """Shuffled training batches, epoch after epoch; order and augmentation depend on the seed alone.

    Parameters
    ----------
    data : Dataset
        As for `epoch_batches`.
    batch_size : int
        Examples per batch.
    seed : int
        Determines order and augmentation.
    """

    def __init__(self, data: Dataset[Any], *, batch_size: int, seed: int) -> None:
        self._data = data
        self._batch_size = batch_size
        self._seed = seed
        self._next = 0
        self._epoch: Iterator[_Batch] = iter(())

    def __iter__(self) -> Iterator[_Batch]:
        return self

    def __next__(self) -> _Batch:
        epoch, number = divmod(self._next, n_batches(self._data, self._batch_size))
        seed = epoch_seed(self._seed, epoch)
        if number == 0:
            self._epoch = self._opened(epoch, 0)
        # Augmentation draws from torch's global generator, as other code does.
        with seeded(epoch_seed(seed, number)):
            batch = next(self._epoch)
        self._next += 1
        return batch

    def skip(self, n: int) -> None:
        """Skip the next `n` batches, without loading them."""
        self._next += n
        self._epoch = self._opened(*divmod(self._next, n_batches(self._data, self._batch_size)))

    def _opened(self, epoch: int, start: int) -> Iterator[_Batch]:
        return epoch_batches(self._data, batch_size=self._batch_size, seed=self._seed, epoch=epoch, start=start)


def epoch_batches(
    data: Dataset[Any],
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    start: int = 0,
    rank: int = 0,
    world_size: int = 1,
    num_workers: int = 0,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the shuffled batches of one epoch.

    Parameters
    ----------
    data : Dataset
        Of (float32 Tensor of shape (C, H, W), int), or with an image instead of the label.
    batch_size : int
        Examples per update, over all processes; each process gets its share of every batch.
    seed, epoch : int
        Determine the order.
    start : int
        Number of batches to skip at the beginning.
    rank, world_size : int
        Which share this process gets.
    num_workers : int
        Processes that load data.

    Yields
    ------
    tuple of Tensor
        Images of shape (B, C, H, W) and labels of shape (B,), or target images. A smaller last batch is dropped unless
        it is the only one: BatchNorm statistics over a handful of examples do harm.
    """
    generator = torch.Generator().manual_seed(epoch_seed(seed, epoch))
    order = torch.randperm(_length(data), generator=generator).tolist()
    order = order[start * batch_size : n_batches(data, batch_size) * batch_size]
    mine = order[rank::world_size]
    return iter(_loader(data, mine, max(1, batch_size // world_size), num_workers, generator))


def ordered_batches(
    data: Dataset[Any], *, batch_size: int, rank: int = 0, world_size: int = 1, num_workers: int = 0
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield every example once, in order; process `rank` gets every `world_size`-th."""
    mine = list(range(rank, _length(data), world_size))
    return iter(_loader(data, mine, batch_size, num_workers, torch.Generator()))


def _loader(
    data: Dataset[Any], order: list[int], batch_size: int, num_workers: int, generator: torch.Generator
) -> DataLoader[Any]:
    return DataLoader(
        _Fetch(data),
        batch_sampler=_Slices(order, batch_size),
        collate_fn=_whole,
        num_workers=num_workers,
        generator=generator,
    )
