"""Records of the coverage study: the job of one network, and its result."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal, TypeAlias

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from benchmarks.records.base import Record

__all__ = [
    "RUNTIMES",
    "CoverageJob",
    "CoverageRow",
    "CoverageSettings",
    "Engine",
    "Limits",
    "ListedInput",
    "ListedNetwork",
    "Outcome",
]

Engine: TypeAlias = Literal["ours", "torch-pruning"]
Outcome: TypeAlias = Literal["ok", "refused", "wrong", "failed"]
RUNTIMES = ("ort", "openvino")
"""Runtimes that every network is exported for and run on."""


class ListedInput(Record):
    """One input of a network.

    Parameters
    ----------
    shape : tuple of int
        Batch axis first.
    below : int, optional
        Random integers from 0 to this one, exclusive, such as token ids; default: normally distributed numbers.
    value : int, optional
        One integer for all elements, such as the 1 of an attention mask or a length.
    """

    shape: tuple[PositiveInt, ...]
    below: PositiveInt | None = None
    value: NonNegativeInt | None = None


class ListedNetwork(Record):
    """One network of the list.

    Parameters
    ----------
    set : str
        Part of the list that it belongs to.
    name : str
        Its name there.
    maker : str
        ``"torchvision"``, ``"timm"``, a library of `deploy.studies.coverage.libraries`, or
        ``path/to/file.py:function``.
    options : dict
        Keyword arguments of the maker.
    wrapper : {"", "detector", "flow"}
        Wrapper that makes it a function of tensors, see `deploy.studies.coverage.models`.
    inputs : tuple of tuple of int, or dict of str to ListedInput
        Shapes of images passed by position, batch axis first; or inputs by keyword.
    millions : float
        Parameters in millions; small networks are run first.
    """

    set: str
    name: str
    maker: str
    options: dict[str, Any] = Field(default_factory=dict)
    wrapper: Literal["", "detector", "flow"] = ""
    inputs: tuple[tuple[PositiveInt, ...], ...] | dict[str, ListedInput]
    millions: PositiveFloat

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shape of each input, batch axis first."""
        if isinstance(self.inputs, dict):
            return tuple(listed.shape for listed in self.inputs.values())
        return self.inputs


class CoverageSettings(Record):
    """Settings shared by all networks and both engines.

    Parameters
    ----------
    ratio : float
        Share of the units of each group to remove.
    least_saved : float
        Share of the multiply-accumulates that has to be removed for ``"ok"``.
    tolerance : float
        Largest error of a runtime that counts as agreement, as a share of the output's range.
    seed : int
        Seed of weights and inputs.
    """

    ratio: float = 0.3
    least_saved: float = 0.15
    tolerance: float = 1e-3
    seed: int = 0


class Limits(Record):
    """Limits of a network's process; a limit that was not exceeded is not part of the result.

    Parameters
    ----------
    time_s : float
        Seconds for one network and engine.
    prune_s : float
        Seconds for one pruning call of the other library.
    memory_gb : float
        Resident gigabytes of one network's processes.
    """

    time_s: PositiveFloat = 600.0
    prune_s: PositiveFloat = 90.0
    memory_gb: PositiveFloat = 14.0


class CoverageJob(Record):
    """One network pruned by one engine.

    Parameters
    ----------
    source : str
        Hash of our files that the result depends on, see `deploy.studies.coverage.provenance`.
    versions : dict of str to str
        Versions of the libraries that it depends on.
    """

    entry: ListedNetwork
    engine: Engine
    settings: CoverageSettings
    limits: Limits = Field(default_factory=Limits)
    source: str
    versions: dict[str, str]

    @property
    def key(self) -> str:
        """Hash of everything but the limits; a different value means that the result may differ."""
        answers = self.model_dump(mode="json", exclude={"limits"})
        return hashlib.sha256(json.dumps(answers, sort_keys=True).encode()).hexdigest()

    @property
    def file_name(self) -> str:
        """Name of the file that holds the row."""
        return f"{self.entry.set}-{self.entry.name}-{self.engine}-{self.key[:16]}.json"


class CoverageRow(Record):
    """Result of one network with one engine; fields of steps not reached are None.

    Parameters
    ----------
    outcome : {"ok", "refused", "wrong", "failed"}
        ``"wrong"``: two outputs that must agree do not. ``"refused"``: no pruned network was returned, or not one that
        meets the request, and `reason` says why. ``"failed"``: a crash, or a limit of time or memory.
    phase : str
        The last phase that was started.
    limited : bool
        Whether a limit ended it; with other limits the result may differ.
    attempt : str
        How the other library was called: ``"plain"`` or ``"hints"``.
    form : str
        ``"module"``: the user's own module. ``"graph"``: a module made from the exported graph; `form_reason` says why.
    groups, pruned_groups : int
        Groups of channels, and those that lost units.
    units, removed_units : int
        Units and removed units over all groups, fixed ones included.
    removed_channels : int
        Output channels of the layers that make them.
    left_whole : tuple of str
        Groups left whole so that the network keeps its own class.
    fixed : str
        The most common reason why units are fixed; empty if none are.
    unknown : tuple of str
        The first operators unknown to the engine, and how it treated them.
    inexact : str
        Why masking and removing differ for some of the removed channels; empty if they are equal.
    equality_error, sensitivity : float
        Difference of masked and compact, and effect of masking on the output; both as shares of the output's range.
    macs_before, macs_after, parameters_before, parameters_after : int
        Counted in the same way for both engines.
    onnx_bytes : int
        Size of the ONNX file.
    ort_error, openvino_error : float
        Largest difference from torch, as a share of the output's range.
    free_batch : bool
        Whether the file takes any batch, checked at two; False if that of the unpruned network does not either, see
        `beside`.
    reload_error : float
        Difference of the network rebuilt in a fresh process to the saved one, as a share of the output's range.
    loss : float
        Loss of one training step that left everything finite and changed weights; None if the unpruned network does not
        train either, see `beside`.
    beside : tuple of str
        What fails for both the pruned and the unpruned network, with the reason.
    dense_error : str
        Why the unpruned network fails at the step where the pruned one stopped; empty if it passed.
    detections : int
        Number of boxes that the whole detector returned, masked and compact alike.
    seconds : dict of str to float
        Wall time of each phase.
    cpu_s : float
        CPU seconds of the process and of the runtimes' processes; independent of other load.
    peak_bytes : int
        Peak resident memory of the process, without the processes of the runtimes.
    """

    version: Literal[1] = 1
    job: CoverageJob
    outcome: Outcome
    reason: str = ""
    phase: str = ""
    limited: bool = False
    attempt: str = ""
    form: str = ""
    form_reason: str = ""
    groups: NonNegativeInt | None = None
    pruned_groups: NonNegativeInt | None = None
    units: NonNegativeInt | None = None
    removed_units: NonNegativeInt | None = None
    removed_channels: NonNegativeInt | None = None
    left_whole: tuple[str, ...] = ()
    fixed: str = ""
    unknown: tuple[str, ...] = ()
    inexact: str = ""
    equality_error: float | None = None
    sensitivity: float | None = None
    macs_before: PositiveInt | None = None
    macs_after: PositiveInt | None = None
    parameters_before: PositiveInt | None = None
    parameters_after: PositiveInt | None = None
    onnx_bytes: PositiveInt | None = None
    ort_error: float | None = None
    openvino_error: float | None = None
    free_batch: bool | None = None
    reload_error: float | None = None
    loss: float | None = None
    beside: tuple[str, ...] = ()
    dense_error: str = ""
    detections: NonNegativeInt | None = None
    seconds: dict[str, float] = Field(default_factory=dict)
    cpu_s: float | None = None
    peak_bytes: PositiveInt | None = None

    @property
    def trace_s(self) -> float | None:
        """Seconds of `pruners.graph.trace`; None if not reached."""
        return _sum(self.seconds, ("export", "analysis"))

    @property
    def prune_s(self) -> float | None:
        """Seconds from tracing to the verified network, or of the other library's calls; None if incomplete.

        The other library does not verify.
        """
        steps = ("prune",) if self.job.engine != "ours" else ("export", "analysis", "plan", "apply", "verify")
        return _sum(self.seconds, steps)

    @property
    def runtime_at_fault(self) -> bool:
        """Whether wrong outputs are the fault of a runtime.

        That is, the other one agrees with torch on the same file, or the runtime gets the unpruned network wrong too.
        """
        if self.outcome != "wrong" or self.phase not in RUNTIMES:
            return False
        tolerance = self.job.settings.tolerance
        file_is_right = self.phase != "ort" and self.ort_error is not None and self.ort_error <= tolerance
        return file_is_right or bool(self.dense_error)

    @property
    def saved(self) -> float | None:
        """Share of the multiply-accumulates removed."""
        if self.macs_before is None or self.macs_after is None:
            return None
        return 1 - self.macs_after / self.macs_before


def _sum(seconds: dict[str, float], steps: tuple[str, ...]) -> float | None:
    return sum(seconds[step] for step in steps) if all(step in seconds for step in steps) else None
