"""How small a network is to become (`Target`), and what else a plan must respect (`Constraints`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Literal, TypeAlias

from pruners.decide.latency import LatencyModel
from pruners.errors import SelectorError, TargetError
from pruners.policy import Attention

__all__ = ["COSTS", "Constraints", "Cost", "Target"]

Cost: TypeAlias = Literal["flops", "macs", "params", "weight_bytes", "activation_bytes"]
COSTS: tuple[Cost, ...] = ("flops", "macs", "params", "weight_bytes", "activation_bytes")
"""Costs that a target can count, by their names in `Target` and in a recipe."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """How small the network is to become.

    Parameters
    ----------
    of : {"latency", "flops", "macs", "params", "weight_bytes", "activation_bytes", "ratios"}
        What is counted, for one example: the predicted time of a call (the default), FLOPs or MACs (the same fraction),
        elements of the parameters, bytes of the saved tensors, bytes of the outputs of convolutions, linear layers and
        matrix products, or nothing with given ratios.
    kept_fraction : float
        Share of the dense network's cost that is **kept**, in (0, 1); not used with "ratios". A method lands at or
        below it, by less than 1 % of the dense cost if the constraints allow steps that small.
    speed_up : float, optional
        Requested speed-up of the network, more than 1: short for ``of="latency"`` and the share 1 / speed_up.
    table : LatencyModel, optional
        With "latency": predicts the time from kept counts.
    dense_ns : float, optional
        With `table`: time of the dense network, in nanoseconds, that `kept_fraction` is a share of, such as the
        measured one. By default the one that the table predicts.
    also : tuple of Target
        With "latency": other latency targets, each with its own table, that the network must meet as well.
    ratios : Mapping of str to float
        With ``of="ratios"``: for each pattern of group names (``fnmatch``) the share of units **removed**, in [0, 1).
        If several patterns match a group, the last one decides. Groups that no pattern matches stay whole.

    Raises
    ------
    TargetError
        An invalid kind, share or ratio.
    """

    of: Cost | Literal["ratios", "latency"] = "latency"
    kept_fraction: float = 1.0
    ratios: Mapping[str, float] = field(default_factory=dict)
    speed_up: float | None = None
    table: LatencyModel | None = None
    dense_ns: float | None = None
    also: tuple[Target, ...] = ()

    def __post_init__(self) -> None:
        kinds = [*COSTS, "latency", "ratios"]
        if self.speed_up is not None:
            if self.of != "latency" or not 1 < self.speed_up < inf:
                raise TargetError(f"speed_up must be more than 1, and of latency; got {self.speed_up} of {self.of}")
            object.__setattr__(self, "kept_fraction", 1 / self.speed_up)
        if self.table is not None and not isinstance(self.table, LatencyModel):
            raise TargetError(
                f"table is a LatencyModel, got {type(self.table).__name__}: convert a LatencyTable with "
                "deploy.tables.latency_model.latency_model"
            )
        if self.of == "latency" and self.table is None:
            raise TargetError(
                "a target of latency needs a latency table (deploy table build); for another cost write of='flops'"
            )
        if self.of != "latency" and self.table is not None:
            raise TargetError(f"a latency table belongs to a target of latency, not of {self.of}")
        if self.dense_ns is not None and (self.table is None or not self.dense_ns > 0):
            raise TargetError(f"dense_ns is the time of the dense network beside a table, above 0; got {self.dense_ns}")
        tables = [self.table, *(other.table for other in self.also)]
        if self.also and (None in tables or len({id(table) for table in tables}) < len(tables)):
            raise TargetError("only targets of latency are met together, each with a latency table of its own")
        if any(other.also for other in self.also):
            raise TargetError("of targets that are met together, only the first may name the others")
        if self.of not in kinds:
            raise TargetError(f"a target is one of {', '.join(kinds)}; got {self.of!r}")
        if self.of == "ratios":
            for pattern, removed in self.ratios.items():
                if not 0 <= removed < 1:
                    raise TargetError(f"ratio of {pattern!r} is the share removed, in [0, 1); got {removed}")
            if not self.ratios:
                raise TargetError("a target by ratios needs at least one pattern")
        elif not 0 < self.kept_fraction < 1:
            raise TargetError(f"kept_fraction is the share of {self.of} kept, in (0, 1); got {self.kept_fraction}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraints:
    """What a plan must respect besides its target.

    Parameters
    ----------
    multiple_of : int
        Kept counts of a group that loses units are a multiple of this (in channels of each layer that produces them,
        not in units). A group with fewer channels than that stays whole.
    min_units : int
        Minimum number of units in every group; no group is ever emptied.
    min_fraction : float
        Minimum share of its units that every group keeps, in [0, 1].
    exclude : tuple of str
        Patterns (``fnmatch``) of names of layers, or of modules with all their layers, that are left whole, together
        with every layer that shares their channels and every residual block that contains such a layer. A pattern
        that matches nothing is an error.
    whole : tuple of str
        Names of groups that are left whole; unlike ``exclude``, this spares neither other groups of the same layers
        nor residual blocks.
    bounds : Mapping of str to (float, float)
        For each pattern (as in ``exclude``) the minimum and maximum that the groups of these layers keep, as shares of
        their units, ``0 <= least <= most <= 1``. A maximum below 1 prunes them whatever the target. If several
        patterns match a group, the last one decides; ``exclude`` overrides it. Residual blocks that contain such a
        layer are not removed.
    ranges : Mapping of str to (int, int)
        For each name of a group the minimum and maximum number of units that it keeps, or the nearest legal number.
        Groups that stay whole and names of no group are passed over. Unlike ``bounds``, this spares no residual block.
    max_units_per_step : int, optional
        Maximum number of units in one removal, over the whole network. A method that removes in steps takes more
        steps; one that removes once refuses a target that it cannot reach this way.
    max_fraction_per_step : float, optional
        The same as a share of all removable units, in (0, 1]; the smaller of the two limits applies.
    exact_only : bool
        Leave groups whole whose removal differs from masking (channels under a LayerNorm or GroupNorm across them).
    attention : {"heads", "head_size"}
        Whether the unit of an attention is a whole head, or one position of every head; see `pruners.policy.Policy`.
    outputs : tuple of str
        Outputs of the network whose channels stay: patterns (``fnmatch``) of their names, which are keys and positions
        joined by dots (``"0"``, ``"1.boxes"``), or of prefixes of these; ``"!1.feats"`` means all but that. Empty: all,
        or those that callers of a known network use (see `pruners.channels.outputs.usual_outputs`).
    form : {"auto", "module", "graph"}
        Form of the result: the user's own module if possible and else the graph form ("auto"), or always one of them.

    Raises
    ------
    TargetError
        A value is out of range.
    SelectorError
        A string is given instead of a tuple of patterns.
    """

    multiple_of: int = 1
    min_units: int = 1
    min_fraction: float = 0.0
    exclude: tuple[str, ...] = ()
    whole: tuple[str, ...] = ()
    bounds: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    ranges: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    max_units_per_step: int | None = None
    max_fraction_per_step: float | None = None
    exact_only: bool = False
    form: Literal["auto", "module", "graph"] = "auto"
    attention: Attention = "heads"
    outputs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        patterns: dict[str, object] = {"exclude": self.exclude, "outputs": self.outputs}
        for name, given in patterns.items():
            if isinstance(given, str):
                raise SelectorError(f"{name} is a tuple of patterns, got the text {given!r}; write ({given!r},)")
        for name, value in (
            ("multiple_of", self.multiple_of),
            ("min_units", self.min_units),
            ("max_units_per_step", self.max_units_per_step),
        ):
            if value is not None and value < 1:
                raise TargetError(f"{name} is at least 1, got {value}")
        if not 0 <= self.min_fraction <= 1:
            raise TargetError(
                f"min_fraction is the share of its units that a group keeps, in [0, 1]; got {self.min_fraction}"
            )
        if self.max_fraction_per_step is not None and not 0 < self.max_fraction_per_step <= 1:
            raise TargetError(
                "max_fraction_per_step is the share of all units that one removal takes at most, in (0, 1]; "
                f"got {self.max_fraction_per_step}"
            )
        for pattern, shares in self.bounds.items():
            pair: object = shares
            if not isinstance(pair, tuple) or len(pair) != 2 or not (0 <= pair[0] <= pair[1] <= 1 and pair[1] > 0):
                raise TargetError(
                    f"bounds of {pattern!r} are the least and the most share kept, 0 <= least <= most <= 1 and "
                    f"0 < most, as in (0.25, 0.75); got {pair}"
                )
        for name, (fewest, most) in self.ranges.items():
            if not 0 <= fewest <= most:
                raise TargetError(
                    f"ranges of {name!r} are the fewest and the most units kept, 0 <= fewest <= most; "
                    f"got {(fewest, most)}"
                )
        if self.form not in ("auto", "module", "graph"):
            raise TargetError(f"form is one of auto, module, graph; got {self.form!r}")
