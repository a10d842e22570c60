"""Split a data set into training, validation and test images: the official split, or else drawn by the seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from deploy.errors import SourceError
from deploy.sources.datasets.family import Part, Raw
from deploy.sources.datasets.split import Draw, stratified

if TYPE_CHECKING:
    from deploy.sources.datasets.data_spec import DataSpec

__all__ = ["Division", "divide"]


@dataclass(frozen=True, kw_only=True)
class Division:
    """Where each of our parts ("train", "validation", "test") comes from.

    Parameters
    ----------
    origins : dict of str to str
        The official part that each is taken from.
    indices : dict of str to ndarray of int64
        Positions in that part.
    """

    origins: dict[str, str]
    indices: dict[str, npt.NDArray[np.int64]]

    def part(self, raw: Raw, name: str) -> Part:
        """Return the images of one of our parts."""
        return _official(raw, self.origins[name]).take(self.indices[name])


def divide(raw: Raw, spec: DataSpec) -> Division:
    """Split a data set: use its official parts if it has them, else seeded, stratified shares of the training part.

    Raises
    ------
    SourceError
        There are too few images for what the specification asks.
    """
    origins = {"train": "train", "validation": "train", "test": "train"}
    pool = np.arange(len(raw.train.labels), dtype=np.int64)
    indices: dict[str, npt.NDArray[np.int64]] = {}
    try:
        if raw.test is None:
            indices["test"], pool = _cut(raw.train.labels, pool, raw.test_fraction, spec.seed, Draw.TEST)
        else:
            origins["test"], indices["test"] = "test", np.arange(len(raw.test.labels), dtype=np.int64)
        if raw.validation is None:
            indices["validation"], pool = _cut(
                raw.train.labels, pool, spec.validation_fraction, spec.seed, Draw.VALIDATION
            )
        else:
            origins["validation"] = "validation"
            indices["validation"] = np.arange(len(raw.validation.labels), dtype=np.int64)
        indices["train"] = pool
        draws = {"train": Draw.LIMIT_TRAIN, "validation": Draw.LIMIT_VALIDATION, "test": Draw.LIMIT_TEST}
        for part, draw in draws.items():
            if spec.limit is not None and spec.limit < len(indices[part]):
                labels = _official(raw, origins[part]).labels[indices[part]]
                chosen, _ = stratified(labels, spec.limit, seed=spec.seed, draw=draw, at_least=int(part == "train"))
                indices[part] = indices[part][chosen]
    except ValueError as error:
        limit = "" if spec.limit is None else f", limit={spec.limit}"
        raise SourceError(
            f"data set {spec.name!r} with validation_fraction={spec.validation_fraction}{limit}: {error}"
        ) from error
    return Division(origins=origins, indices=indices)


def _cut(
    labels: npt.NDArray[np.int64], pool: npt.NDArray[np.int64], fraction: float, seed: int, draw: Draw
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Take a share out of `pool`, but never the last image of a class."""
    n = max(1, round(fraction * len(pool)))
    chosen, rest = stratified(labels[pool], n, seed=seed, draw=draw, leave=1)
    return pool[chosen], pool[rest]


def _official(raw: Raw, origin: str) -> Part:
    part: Part | None = getattr(raw, origin)
    assert part is not None
    return part
