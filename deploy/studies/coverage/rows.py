"""The records of the coverage study: what is asked of one network, and what came out."""

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
"""What every network is exported for and run on."""


class ListedInput(Record):
    """One input of a network.

    Parameters
    ----------
    shape : tuple of int
        Batch axis first.
    below : int, optional
        Whole numbers from 0 to this one, exclusive, such as token ids; default: normal numbers.
    value : int, optional
        The same whole number everywhere, such as the 1 of an attention mask or a length.
    """

    shape: tuple[PositiveInt, ...]
    below: PositiveInt | None = None
    value: NonNegativeInt | None = None


class ListedNetwork(Record):
    """One network of the list.

    Parameters
    ----------
    set : str
        The part of the list that it belongs to.
    name : str
        Its name there.
    maker : str
        ``"torchvision"``, ``"timm"``, a library of `deploy.studies.coverage.libraries`, or
        ``path/to/file.py:function``.
    options : dict
        Keyword arguments of the maker.
    wrapper : {"", "detector", "flow"}
        What makes it a function of tensors, see `deploy.studies.coverage.models`.
    inputs : tuple of tuple of int, or dict of str to ListedInput
        Shapes of images that are handed over by position, batch axis first; or inputs by keyword.
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
    """The same for all networks and both engines.

    Parameters
    ----------
    ratio : float
        Share of the units of each group that is removed.
    least_saved : float
        Share of the multiply-accumulates that has to be gone for ``"ok"``.
    tolerance : float
        Largest error of a runtime that counts as the same answer, as a share of the output's range.
    seed : int
        Of weights and inputs.
    """

    ratio: float = 0.3
    least_saved: float = 0.15
    tolerance: float = 1e-3
    seed: int = 0


class Limits(Record):
    """What ends a network's process; a limit that was not passed is not part of the answer.

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
    """One network under one engine.

    Parameters
    ----------
    source : str
        Hash of the files of ours on which the answer depends, see `deploy.studies.coverage.provenance`.
    versions : dict of str to str
        Of the libraries on which it depends.
    """

    entry: ListedNetwork
    engine: Engine
    settings: CoverageSettings
    limits: Limits = Field(default_factory=Limits)
    source: str
    versions: dict[str, str]

    @property
    def key(self) -> str:
        """Hash of everything but the limits: another value means that the answer may be another one."""
        answers = self.model_dump(mode="json", exclude={"limits"})
        return hashlib.sha256(json.dumps(answers, sort_keys=True).encode()).hexdigest()

    @property
    def file_name(self) -> str:
        """Name of the file that holds the row."""
        return f"{self.entry.set}-{self.entry.name}-{self.engine}-{self.key[:16]}.json"


class CoverageRow(Record):
    """The outcome of one network under one engine; what was not reached is None.

    Parameters
    ----------
    outcome : {"ok", "refused", "wrong", "failed"}
        ``"wrong"``: two answers that must agree do not. ``"refused"``: no pruned network was handed out, or not one
        that does what was asked, and `reason` says why. ``"failed"``: a crash, or a limit of time or memory.
    phase : str
        The last phase that was begun.
    limited : bool
        A limit ended it: with other limits the answer may be another one.
    attempt : str
        How the other library was called: ``"plain"`` or ``"hints"``.
    form : str
        ``"module"``: the user's own module. ``"graph"``: a module made from the exported graph; `form_reason` says why.
    groups, pruned_groups : int
        Groups of channels, and those that lost units.
    units, removed_units : int
        Over all groups, fixed ones included.
    removed_channels : int
        Output channels of the layers that make them.
    left_whole : tuple of str
        Groups that were left whole so that the network keeps its own class.
    fixed : str
        Why most of the units that may not be pruned may not; empty where all may.
    unknown : tuple of str
        The first operators that the engine does not know, with what it did about them.
    inexact : str
        Why masking and removing differ for some of the removed channels; empty where they are equal.
    equality_error, sensitivity : float
        Masked against compact, and how far masking moves the output; both as shares of the output's range.
    macs_before, macs_after, parameters_before, parameters_after : int
        Counted in the same way for both engines.
    onnx_bytes : int
        Size of the file.
    ort_error, openvino_error : float
        Against torch, as a share of the output's range.
    free_batch : bool
        Whether the file takes any batch, at two of which it was compared; False where that of the unpruned network
        cannot either, see `beside`.
    reload_error : float
        Rebuilt in a fresh process from code, plan and weights, against what was saved; a share of the output's range.
    loss : float
        Of one training step that left everything finite and changed weights; None where the unpruned network does not
        train either, see `beside`.
    beside : tuple of str
        What neither the pruned network does nor the unpruned one, with the reason.
    dense_error : str
        What the unpruned network did at the step at which the pruned one stopped; empty where it passed.
    detections : int
        Boxes that the whole detector gave, masked and compact alike.
    seconds : dict of str to float
        Wall time of each phase.
    cpu_s : float
        Processor seconds of the process and of the runtimes' processes; does not depend on what else runs.
    peak_bytes : int
        Largest resident size of the process; the runtimes run in processes of their own.
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
        """Seconds of `pruners.graph.trace`; None where it was not reached."""
        return _sum(self.seconds, ("export", "analysis"))

    @property
    def prune_s(self) -> float | None:
        """Seconds from tracing to the verified network, or of the other library's calls; None where not all was done.

        The other library verifies nothing.
        """
        steps = ("prune",) if self.job.engine != "ours" else ("export", "analysis", "plan", "apply", "verify")
        return _sum(self.seconds, steps)

    @property
    def runtime_at_fault(self) -> bool:
        """Whether the wrong answers are a runtime's.

        The other one agrees with torch on the very same file, or the runtime gets the unpruned network wrong, too.
        """
        if self.outcome != "wrong" or self.phase not in RUNTIMES:
            return False
        tolerance = self.job.settings.tolerance
        file_is_right = self.phase != "ort" and self.ort_error is not None and self.ort_error <= tolerance
        return file_is_right or bool(self.dense_error)

    @property
    def saved(self) -> float | None:
        """Share of the multiply-accumulates that is gone."""
        if self.macs_before is None or self.macs_after is None:
            return None
        return 1 - self.macs_after / self.macs_before


def _sum(seconds: dict[str, float], steps: tuple[str, ...]) -> float | None:
    return sum(seconds[step] for step in steps) if all(step in seconds for step in steps) else None
