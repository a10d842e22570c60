"""How small a network shall become (`Target`), and what a plan must respect besides (`Constraints`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from pruners.decide.latency import LatencyModel
from pruners.errors import SelectorError, TargetError
from pruners.policy import Attention

__all__ = ["COSTS", "Constraints", "Cost", "Target"]

Cost: TypeAlias = Literal["flops", "macs", "params", "weight_bytes", "activation_bytes"]
COSTS: tuple[Cost, ...] = ("flops", "macs", "params", "weight_bytes", "activation_bytes")
"""What a target can count, by the name that `Target` and a recipe give it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """How small the network shall become.

    Parameters
    ----------
    of : {"flops", "macs", "params", "weight_bytes", "activation_bytes", "ratios"}
        What is counted, for one example: FLOPs or MACs (the same fraction), elements of the parameters, bytes of what
        is saved, bytes of the results of convolutions, linear layers and matrix products, or nothing with given ratios.
    kept_fraction : float
        Share of the dense network's cost that is **kept**, in (0, 1); not used with "ratios". A method lands at or
        below it, and by less than 1 % of the dense cost where the constraints allow steps that are so small.
    speed_up : float, optional
        How many times faster the network shall be, more than 1: short for ``of="latency"`` and the share 1 / speed_up.
    table : LatencyModel, optional
        With "latency": predicts the time from kept counts.
    also : tuple of Target
        With "latency": other targets of latency, each with a table of its own, that the network meets as well.
    ratios : Mapping of str to float
        With ``of="ratios"``: for each pattern of group names (``fnmatch``) the share of its units that is
        **removed**, in [0, 1); of several patterns that match a group the last one decides. Groups that no pattern
        names stay whole.

    Raises
    ------
    TargetError
        A kind, a share or a ratio that is not one.
    """

    of: Cost | Literal["ratios", "latency"] = "latency"
    kept_fraction: float = 1.0
    ratios: Mapping[str, float] = field(default_factory=dict)
    speed_up: float | None = None
    table: LatencyModel | None = None
    also: tuple[Target, ...] = ()

    def __post_init__(self) -> None:
        kinds = [*COSTS, "latency", "ratios"]
        if self.speed_up is not None:
            if self.of != "latency" or not self.speed_up > 1:
                raise TargetError(f"speed_up is more than 1 and of the latency; got {self.speed_up} of {self.of}")
            object.__setattr__(self, "kept_fraction", 1 / self.speed_up)
        if self.of == "latency" and self.table is None:
            raise TargetError(
                "a target of latency needs a latency table (deploy table build); else say what is counted, of='flops'"
            )
        if self.of != "latency" and self.table is not None:
            raise TargetError(f"a latency table belongs to a target of latency, not of {self.of}")
        tables = [self.table, *(other.table for other in self.also)]
        if self.also and (None in tables or len({id(table) for table in tables}) < len(tables)):
            raise TargetError("only targets of latency are met together, each with a latency table of its own")
        if any(other.also for other in self.also):
            raise TargetError("of targets that are met together only the first one names the others")
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
        Kept counts of a group that loses units are a multiple of this (channels of each layer that makes them, not
        units). A group with fewer channels than that stays whole.
    min_units : int
        Units that every group keeps at least; no group is ever emptied.
    min_fraction : float
        Share of its units that every group keeps at least, in [0, 1].
    exclude : tuple of str
        Patterns (``fnmatch``) of names of layers, or of modules with all layers in them, that are left whole, together
        with every layer that shares their channels, and the residual blocks that hold such a layer. A pattern that
        matches nothing is an error.
    whole : tuple of str
        Names of groups that are left whole; other groups of the same layers are not, nor are residual blocks kept.
    bounds : Mapping of str to (float, float)
        For each such pattern the least and the most that the groups of these layers keep, as shares of
        their units, ``0 <= least <= most <= 1``. A most below 1 prunes them whatever the target says. Of several
        patterns that match a group the last one decides; ``exclude`` wins over it. Residual blocks that hold such a
        layer are not removed.
    max_units_per_step : int, optional
        Units that one removal takes at most, over the whole network. A method that removes in steps makes more of
        them; one that removes once refuses what it cannot reach so.
    max_fraction_per_step : float, optional
        The same as a share of all units that may be removed at all, in (0, 1]; of both the smaller one counts.
    exact_only : bool
        Leave groups whole whose removal differs from masking (channels under a LayerNorm or GroupNorm across them).
    attention : {"heads", "head_size"}
        Whether the unit of an attention is a whole head, or one position of every head; see `pruners.policy.Policy`.
    outputs : tuple of str
        Outputs of the network whose channels stay: patterns (``fnmatch``) of their names, which are keys and positions
        joined by dots (``"0"``, ``"1.boxes"``), or of what these begin with; ``"!1.feats"`` means all but that. Empty:
        all, or those that callers of a known network use (see `pruners.channels.outputs.usual_outputs`).
    form : {"auto", "module", "graph"}
        What is handed back: the user's own module where that is possible and the graph form where not, or one of both.

    Raises
    ------
    TargetError
        A value that is out of range.
    SelectorError
        A text where a tuple of patterns is meant.
    """

    multiple_of: int = 1
    min_units: int = 1
    min_fraction: float = 0.0
    exclude: tuple[str, ...] = ()
    whole: tuple[str, ...] = ()
    bounds: Mapping[str, tuple[float, float]] = field(default_factory=dict)
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
        if self.form not in ("auto", "module", "graph"):
            raise TargetError(f"form is one of auto, module, graph; got {self.form!r}")
