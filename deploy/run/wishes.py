"""Command-line flags given instead of a recipe, or on top of one. Imports no torch."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from deploy.errors import RecipeError

__all__ = ["Wishes"]

_SPEEDS = ("speed_up", "latency_ms")
_TARGETS = (*_SPEEDS, "flops")
_FIRST_SPEED_UP = 2.0
"""Start of the search for the smallest network within an allowed drop."""


class Wishes(BaseModel):
    """Flags of ``deploy run`` and ``deploy init``, each a key of a recipe; None is not given."""

    # NaN and infinity reach the recipe, which refuses them: as JSON's null they would look like flags not given.
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    network: str | None = None
    weights: str | None = None
    data: str | None = None
    data_root: Path | None = None
    image_size: int | None = None
    crop: float | str | None = None
    normalise: str | None = None
    method: str | None = None
    speed_up: float | None = None
    latency_ms: float | None = None
    flops: float | None = None
    on: tuple[str, ...] = ()
    max_drop: float | None = None
    threads: int | None = None
    epochs: int | None = None
    budget_s: float | None = None

    @property
    def given(self) -> bool:
        """Whether any flag is given, apart from the folder of the data."""
        return bool(self.model_dump(exclude_defaults=True, exclude={"data_root"}))

    @property
    def name(self) -> str:
        """Name of the run, from the network's file or the network."""
        file, _, rest = (self.network or "").rpartition(":")
        stem = Path(file).stem if file.endswith(".py") else rest
        return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).lstrip("._-") or "own"

    def over(self, document: dict[str, Any]) -> dict[str, Any]:
        """Return a recipe's document with its keys replaced by the given flags.

        Raises
        ------
        RecipeError
            The document asks for several speeds, and the flags do not say all of another target.
        """
        given = {
            "network": _given(name=self.network, weights=self.weights),
            "data": _given(
                name=self.data,
                root=None if self.data_root is None else str(self.data_root),
                image_size=self.image_size,
                crop=self.crop,
                normalise=self.normalise,
            ),
            "prune": self._prune(document),
            "finetune": _given(epochs=self.epochs),
            "bench": _given(backends=list(self.on) or None, threads=self.threads, budget_s=self.budget_s),
        }
        merged = {key: {**_section(document, key), **part} for key, part in given.items() if part}
        drop = _given(max_drop=self.max_drop, beyond_target=True if self._smallest(document) else None)
        return {**document, **merged, **drop}

    def _prune(self, document: dict[str, Any]) -> dict[str, Any]:
        part: dict[str, Any] = {}
        if self.method is not None:  # settings belong to one method
            part = {"method": self.method, "settings": {}}
        if (target := self._target(document)) is not None:
            part["target"] = target
            if "also" in _section(document, "prune"):
                part["also"] = []
        return part

    def _target(self, document: dict[str, Any]) -> dict[str, Any] | list[dict[str, Any]] | None:
        """Return the requested target, on each of the backends; None if the document's stays.

        Another speed, or another backend, keeps the other keys of the document's speed.
        """
        asked = {key: getattr(self, key) for key in _TARGETS if getattr(self, key) is not None}
        if self._smallest(document):
            asked = {"speed_up": _FIRST_SPEED_UP}
        if "flops" in asked or not (asked or self.on or self.threads):
            return asked or None
        known = _speeds(document)
        if len(known) > 1 and not (asked and self.on):
            if not (asked or self.on or any(speed.get("threads") is not None for speed in known)):
                return None  # their threads are those of `bench`
            raise RecipeError("the recipe asks for several speeds: change them there, or give a speed with --on")
        if len(known) == 1:
            own = {"threads"} if self.threads is not None else set()
            dropped = own.union(_SPEEDS if asked else ())
            asked = {**{key: value for key, value in known[0].items() if key not in dropped}, **asked}
        if not asked:
            return None
        first, *others = ({**asked, "on": backend} for backend in self.on) if self.on else (asked,)
        return [first, *others] if others else first

    def _smallest(self, document: dict[str, Any]) -> bool:
        """Whether the smallest network within a drop is requested: a drop is allowed, and no target is set."""
        asked = any(getattr(self, key) is not None for key in _TARGETS)
        return self.max_drop is not None and not asked and "target" not in _section(document, "prune")


def _given(**keys: Any) -> dict[str, Any]:
    return {key: value for key, value in keys.items() if value is not None}


def _speeds(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the speeds that a recipe's document asks for, written in any of its forms."""
    prune = _section(document, "prune")
    first, also = prune.get("target"), prune.get("also")
    targets = [*(first if isinstance(first, list) else [first]), *(also if isinstance(also, list) else [])]
    return [each for each in targets if isinstance(each, dict) and any(each.get(key) is not None for key in _SPEEDS)]


def _section(document: dict[str, Any], key: str) -> dict[str, Any]:
    part = document.get(key)
    return part if isinstance(part, dict) else {}
