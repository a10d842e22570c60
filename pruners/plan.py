"""`PruningPlan`: the kept units of each group. Immutable, JSON, and enough to rebuild a compact network."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from pruners.errors import PlanError
from pruners.files import read_strict_json, replacing
from pruners.policy import Policy

__all__ = ["CallSpec", "InputSpec", "PruningPlan"]


class InputSpec(BaseModel):
    """One example input: shape (batch axis included), torch dtype name, and what is known of its values."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    shape: tuple[int, ...]
    dtype: str = "float32"
    low: float | None = Field(None, description="smallest finite value")
    high: float | None = Field(None, description="largest finite value")
    values: tuple[int, ...] | None = Field(
        None, description="all values, if they are a few integers or truth values (0 or 1)"
    )

    @model_validator(mode="after")
    def _fits(self) -> InputSpec:
        if self.values is not None and len(self.values) != prod(self.shape):
            raise ValueError(f"an input of shape {self.shape} has {len(self.values)} values")
        return self

    @model_serializer(mode="wrap")
    def _short(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = whole(self)
        return {name: value for name, value in fields.items() if value is not None}


class CallSpec(BaseModel):
    """Call of a network that takes more than positional tensors: where its tensors go, and the other arguments."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tree: JsonValue = Field(None, description="JSON of torch.utils._pytree.treespec_dumps of (args, kwargs)")
    constants: tuple[tuple[bool | int | float | str | None] | None, ...] = Field(
        (), description="for each leaf of the tree its value in a tuple, or None for a tensor"
    )
    unknown: str = Field("", description="why it could not be described")


class PruningPlan(BaseModel):
    """The kept units of each pruned group.

    Only groups that lose units are listed. The plan is relative to the *original* network: plans of successive
    steps are joined with `then`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1, 2] = 2
    graph: str = Field(description="fingerprint of the graph that the plan was made for")
    inputs: tuple[InputSpec, ...] = Field(description="tensors with which the graph was traced")
    call: CallSpec | None = Field(None, description="which arguments hold the inputs; None: one after the other")
    method: str
    settings: dict[str, Any] = Field(default_factory=dict, description="settings of the method, JSON values only")
    sizes: dict[str, int] = Field(description="units of each listed group before pruning")
    kept: dict[str, tuple[int, ...]] = Field(description="kept units of each listed group, ascending")
    blocks: tuple[str, ...] = Field((), description="residual blocks that are removed whole")
    policy: Policy = Field(default_factory=Policy, description="what is pruned where there was a choice")

    @model_validator(mode="after")
    def _legal(self) -> PruningPlan:
        if self.sizes.keys() != self.kept.keys():
            raise ValueError("sizes and kept list different groups")
        for name, kept in self.kept.items():
            if not kept:
                raise ValueError(f"group {name!r} would be emptied")
            if any(b <= a for a, b in pairwise(kept)):
                raise ValueError(f"kept units of {name!r} are not ascending and unique")
            if kept[0] < 0 or kept[-1] >= self.sizes[name]:
                raise ValueError(f"kept units of {name!r} are outside 0..{self.sizes[name] - 1}")
        return self

    @model_serializer(mode="wrap")
    def _short(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = whole(self)
        return fields if self.call is not None else {name: fields[name] for name in fields if name != "call"}

    def __repr__(self) -> str:
        return (
            f"PruningPlan({self.method}, {self.removed_units} of {sum(self.sizes.values())} units removed in "
            f"{len(self.kept)} groups, {len(self.blocks)} blocks, graph {self.graph[:12]})"
        )

    def __str__(self) -> str:
        return repr(self)

    @property
    def removed_units(self) -> int:
        """Units that the plan removes, over all groups."""
        return sum(self.sizes[name] - len(kept) for name, kept in self.kept.items())

    @property
    def sha256(self) -> str:
        """Hash of the canonical JSON form."""
        return hashlib.sha256(json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()

    @property
    def removes(self) -> bool:
        """Whether the plan removes anything."""
        return bool(self.removed_units or self.blocks)

    def removed(self, group: str) -> tuple[int, ...]:
        """Return the removed units of `group`, ascending; empty if the group is not listed."""
        if group not in self.kept:
            return ()
        kept = set(self.kept[group])
        return tuple(unit for unit in range(self.sizes[group]) if unit not in kept)

    def then(self, later: PruningPlan) -> PruningPlan:
        """Join this plan with one made for the network that it produced.

        Parameters
        ----------
        later : PruningPlan
            Its units index the survivors of this plan; group names are the same in both networks, as
            `pruners.graph.trace` makes them if `after` holds this plan.

        Returns
        -------
        PruningPlan
            Relative to the original network, with the method and settings of `later`.

        Raises
        ------
        PlanError
            `later` expects other group sizes than this plan leaves.
        """
        sizes, kept = dict(self.sizes), dict(self.kept)
        for name, positions in later.kept.items():
            before = kept.get(name, tuple(range(later.sizes[name])))
            if len(before) != later.sizes[name]:
                raise PlanError(
                    f"group {name!r}: the first plan leaves {len(before)} units, the second counts {later.sizes[name]}"
                )
            sizes.setdefault(name, later.sizes[name])
            kept[name] = tuple(before[position] for position in positions)
        blocks = (*self.blocks, *(name for name in later.blocks if name not in self.blocks))
        return self.model_copy(
            update={
                "method": later.method,
                "settings": later.settings,
                "sizes": sizes,
                "kept": kept,
                "blocks": blocks,
            }
        )

    def save(self, path: Path) -> None:
        """Write the plan as JSON, complete or not at all."""
        with replacing(path) as part:
            part.write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> PruningPlan:
        """Read a plan.

        Raises
        ------
        PlanError
            The file is missing, is not JSON, or is not a legal plan.
        """
        try:
            return cls.model_validate_json(read_strict_json(path))
        except FileNotFoundError as error:
            raise PlanError(f"{path}: no such file") from error
        except OSError as error:
            raise PlanError(f"{path} cannot be read: {error.strerror or error}") from error
        except ValidationError as error:
            raise PlanError(f"{path} is not a pruning plan: {error.errors()[0]['msg']}") from error
        except ValueError as error:
            raise PlanError(f"{path} is not a pruning plan: {error}") from error

    @classmethod
    def from_kept(
        cls,
        kept: Mapping[str, tuple[int, ...]],
        sizes: Mapping[str, int],
        *,
        graph: str,
        inputs: tuple[InputSpec, ...],
        call: CallSpec | None = None,
        method: str,
        settings: Mapping[str, Any],
        policy: Policy | None = None,
        blocks: tuple[str, ...] = (),
    ) -> PruningPlan:
        """Make a plan, leaving out groups that keep everything.

        Raises
        ------
        PlanError
            The kept units are not legal.
        """
        cut = {name: units for name, units in kept.items() if len(units) < sizes[name]}
        try:
            return cls(
                graph=graph,
                inputs=inputs,
                call=call,
                method=method,
                settings=dict(settings),
                sizes={name: sizes[name] for name in cut},
                kept=cut,
                blocks=blocks,
                policy=Policy() if policy is None else policy,
            )
        except ValidationError as error:
            raise PlanError(error.errors()[0]["msg"]) from error
