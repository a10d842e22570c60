"""Registry of pruning methods: a table of ours, entry points (group ``prune_deploy.methods``) for third-party ones.

Timing a network and writing it as ONNX, which this package does not do, are found by entry points too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal, Protocol

from prune_deploy import how_to_install
from pruners.base import PruningMethod
from pruners.decide.latency import LatencyModel
from pruners.errors import MethodError, ServiceError, TargetError, UnknownMethodError, did_you_mean
from pruners.target import COSTS, Constraints, Target
from pruners.task import Pruned, PruningTask

if TYPE_CHECKING:
    from torch import nn

__all__ = ["ENTRY_POINT_GROUP", "SERVICES", "PrunedNetwork", "Speed", "create", "method_class", "names", "prune"]

ENTRY_POINT_GROUP = "prune_deploy.methods"
SERVICES = "prune_deploy.services"
"""Entry points of services of another package: ``speed`` prunes to a measured time, ``export`` writes ONNX."""

_BUILT_IN = {
    "l1": "pruners.methods.l1:L1",
    "criterion": "pruners.methods.criterion:ByCriterion",
    "taylor": "pruners.methods.taylor:Taylor",
    "thinet": "pruners.methods.thinet:ThiNet",
    "regression": "pruners.methods.regression:Regression",
    "slimming": "pruners.methods.slimming:Slimming",
    "sss": "pruners.methods.sss:SSS",
    "autopruner": "pruners.methods.autopruner:AutoPruner",
    "dhp": "pruners.methods.dhp:DHP",
    "magnitude": "pruners.methods.magnitude:Magnitude",
    "lottery": "pruners.methods.lottery:Lottery",
    "uniform": "pruners.methods.uniform:Uniform",
    "random": "pruners.methods.random_units:Random",
}
_COMPETITORS = {"torch-pruning": "pruners.methods.group_norm:GroupNorm"}
"""Pruners of other libraries, for comparison in studies. They support few constraints, and need their library."""


def _table() -> dict[str, str]:
    table = dict(_BUILT_IN)
    for point in entry_points(group=ENTRY_POINT_GROUP):
        if point.name in table:
            raise MethodError(f"method {point.name!r} is registered twice: {table[point.name]} and {point.value}")
        table[point.name] = point.value
    return table


def names(removes: Literal["channels", "weights"] | None = None) -> tuple[str, ...]:
    """List the registered methods, ours first: all, or only those that remove channels or set weights to zero.

    Competitors (methods of other libraries) are not listed.
    """
    return tuple(name for name in _table() if removes is None or method_class(name).removes == removes)


def method_class(name: str) -> type[PruningMethod]:
    """Return the class of the method called `name`: its docstring, paper and settings, without an instance.

    Raises
    ------
    UnknownMethodError
        No such method; the message names the nearest one.
    MethodError
        The table or an entry point names something that cannot be imported or is not a method.
    """
    table = {**_table(), **_COMPETITORS}
    if name not in table:
        raise UnknownMethodError(f"unknown method {name!r}{did_you_mean(name, table)} (there are: {', '.join(table)})")
    module, _, attribute = table[name].partition(":")
    try:
        loaded = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise MethodError(f"method {name!r} cannot be loaded from {table[name]}: {error}") from error
    if not (isinstance(loaded, type) and issubclass(loaded, PruningMethod)):
        raise MethodError(f"method {name!r}: {table[name]} is not a subclass of pruners.base.PruningMethod")
    return loaded


def create(name: str, **settings: Any) -> PruningMethod:
    """Create the method called `name` with its settings.

    Raises
    ------
    UnknownMethodError
        No such method.
    MethodError
        An unknown or illegal setting.
    """
    return method_class(name)(**settings)


class Speed(Protocol):
    """How close a pruned network came to the requested speed; ``str()`` of it is one sentence."""

    @property
    def backend(self) -> str:
        """Backend it was measured on."""

    @property
    def threads(self) -> int:
        """Threads of one call."""

    @property
    def asked_speed_up(self) -> float:
        """Requested speed-up over the dense network."""

    @property
    def predicted_speed_up(self) -> float:
        """Speed-up predicted by the latency table."""

    @property
    def measured_speed_up(self) -> float:
        """Measured speed-up."""

    @property
    def met(self) -> bool:
        """Whether it is as fast as requested, within the tolerance."""


@dataclass(frozen=True, kw_only=True, repr=False)
class PrunedNetwork(Pruned):
    """Result of `prune`: a `Pruned` that can be exported, and knows its speed if one was requested.

    Parameters
    ----------
    example_inputs : Tensor, tuple, Mapping or (tuple, Mapping)
        Inputs it was pruned with.
    speed : Speed, optional
        Requested, predicted and measured; None if no time was measured.
    """

    example_inputs: Any
    speed: Speed | None = None

    def export(self, path: str | PathLike[str], example_inputs: Any = None, **options: Any) -> Any:
        """Write the network with its current weights as a checked ONNX file: `deploy.export` of `model`.

        Parameters
        ----------
        path : str or path
            Replaced only once the file is complete and valid.
        example_inputs : Tensor, tuple, Mapping or (tuple, Mapping), optional
            Default: those it was pruned with.
        **options
            ``opset``, ``dynamic_batch``, ``input_names``, ``output_names`` and ``external_data`` of `deploy.export`.

        Returns
        -------
        deploy.exporting.export_info.ExportInfo
            Description of the file.

        Raises
        ------
        ServiceError
            The package `deploy` is not installed.
        deploy.DeployError
            The network cannot be exported, or the file cannot be written.
        """
        inputs = self.example_inputs if example_inputs is None else example_inputs
        return _service("export", "exporting a network")(self.model, inputs, path, **options)

    def __repr__(self) -> str:
        plain, speed = super().__repr__().replace("Pruned(", "PrunedNetwork(", 1), self.speed
        if speed is None:
            return plain
        return (
            f"{plain.removesuffix(')')}, {speed.asked_speed_up:.2f}x the speed on {speed.backend} asked, "
            f"{speed.predicted_speed_up:.2f}x predicted, {speed.measured_speed_up:.2f}x measured"
            f"{'' if speed.met else ': not reached'})"
        )


def _service(name: str, what: str) -> Any:
    """Return a service of another package; `what` names it in messages."""
    for point in entry_points(group=SERVICES, name=name):
        try:
            return point.load()
        except (ImportError, AttributeError) as error:
            raise ServiceError(f"{what} needs {point.value}, which cannot be loaded: {error}") from error
    raise ServiceError(f"{what} is done by the package deploy, which is not installed here: {how_to_install('prune')}")


def prune(
    module: nn.Module,
    example_inputs: Any,
    method: str | PruningMethod = "l1",
    *,
    flops: float | None = None,
    macs: float | None = None,
    params: float | None = None,
    weight_bytes: float | None = None,
    activation_bytes: float | None = None,
    ratios: Mapping[str, float] | None = None,
    speed_up: float | None = None,
    on: str | None = None,
    threads: int | None = None,
    device: str | None = None,
    precision: str | None = None,
    batch: int | None = None,
    dynamic_batch: bool | None = None,
    tolerance: float | None = None,
    table: LatencyModel | None = None,
    constraints: Constraints | None = None,
    settings: Mapping[str, Any] | None = None,
    seed: int = 0,
    **task: Any,
) -> PrunedNetwork:
    """Prune a network to one target.

    Parameters
    ----------
    module : Module
        It is copied, never modified.
    example_inputs : Tensor, tuple, Mapping or (tuple, Mapping)
        Arguments of one call, see `pruners.task.PruningTask`.
    method : str or PruningMethod, default="l1"
        One of `names`, or a method instance.
    flops, macs, params, weight_bytes, activation_bytes : float, optional
        Largest share of that cost to be **kept**, in (0, 1).
    ratios : Mapping of str to float, optional
        Share of channels **removed**, by pattern of layer names.
    speed_up : float, optional
        Requested speed-up over the dense network, more than 1. It is measured on this machine: first how the time of
        each layer depends on its width, in a minute or so (cached and reused), then the plan, which is corrected.
    on : str, optional
        Backend that `speed_up` is measured on, default ``"ort"``.
    threads, device, precision, batch, dynamic_batch : optional
        Of the timed calls, as in `deploy.bench` and `deploy.export`. Defaults: every usable core, the backend's device,
        fp32, one example, and a dynamic batch axis in the file.
    tolerance : float, optional
        How far off the measured time may be, as a share of the dense network's; default 0.01.
    table : LatencyModel, optional
        Predicts times for `speed_up`, so that nothing is measured.
    constraints : Constraints, optional
        What else the plan must respect. Default if speed is measured: counts are multiples of the number of channels
        that the backend computes together.
    settings : Mapping of str to Any, optional
        Settings of a method given by name.
    seed : int, default=0
        Seeds all random draws of the method.
    **task
        ``batches``, ``loss``, ``train``, ``fit``, ``keeper`` and ``progress`` of `pruners.task.PruningTask`.

    Returns
    -------
    PrunedNetwork
        With ``model``, ``plan``, ``verification`` (the check that masked and compact networks agree), ``export(path)``
        and ``speed`` (requested, predicted and measured).

    Raises
    ------
    TargetError
        Not exactly one target, a target that cannot be met, or arguments that belong to another target.
    PruneError
        As `pruners.base.Method.prune`.
    deploy.DeployError
        The speed cannot be measured on that backend.
    """
    shares = dict(zip(COSTS, (flops, macs, params, weight_bytes, activation_bytes), strict=True))
    given = [name for name, share in (*shares.items(), ("ratios", ratios), ("speed_up", speed_up)) if share is not None]
    if len(given) != 1:
        kinds = ", ".join((*COSTS, "ratios", "speed_up"))
        raise TargetError(f"give one of {kinds}; got {' and '.join(given) or 'none'}")
    if isinstance(method, PruningMethod) and settings:
        raise MethodError(f"method {method.name!r} was made with its settings: give its name, or leave settings out")
    timing = {
        "on": on,
        "threads": threads,
        "device": device,
        "precision": precision,
        "batch": batch,
        "dynamic_batch": dynamic_batch,
        "tolerance": tolerance,
    }
    timing = {name: value for name, value in timing.items() if value is not None}
    if timing and (speed_up is None or table is not None):
        instead = given[0] if table is None else "table, by which nothing is measured"
        raise TargetError(
            f"{', '.join(timing)} say where speed_up is measured, and contradict {instead}: leave one out"
        )
    if table is not None and speed_up is None:
        raise TargetError(f"a latency table belongs to speed_up, not to {given[0]}")
    made = create(method, **(settings or {})) if isinstance(method, str) else method
    facts = {"model": module, "example_inputs": example_inputs, "seed": seed, **task}
    if speed_up is not None and table is None:
        pruned, speed = _service("speed", "measuring a speed")(
            made, facts, speed_up=speed_up, constraints=constraints, **timing
        )
        return PrunedNetwork(**vars(pruned), example_inputs=example_inputs, speed=speed)
    if speed_up is not None:
        target = Target(speed_up=speed_up, table=table)
    elif ratios is not None:
        target = Target(of="ratios", ratios=ratios)
    else:
        of = next(name for name in COSTS if shares[name] is not None)
        target = Target(of=of, kept_fraction=shares[of] or 0.0)
    pruned = made.prune(PruningTask(**facts, target=target, constraints=constraints or Constraints()))
    return PrunedNetwork(**vars(pruned), example_inputs=example_inputs)
