"""`Profile`: the board and a network's measurements on it, as one versioned JSON file.

It holds raw samples; every percentile, ratio and sentence is derived from them for display. docs/profile.md explains
each field.

Versions of the format
----------------------
1   the first
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, model_validator

from benchmarks.layers.comparison import LayerReport
from benchmarks.machine.affinity import format_cores
from benchmarks.machine.board.records import Board, Celsius
from benchmarks.machine.board.watch import Reading
from benchmarks.records.base import Record
from deploy.results.document import Document, legal, read_document, require_version
from deploy.results.results import Results, results_of_document

__all__ = [
    "MARK",
    "PARTS",
    "Absent",
    "ColdStart",
    "Cooling",
    "PartName",
    "Point",
    "Profile",
    "Second",
    "Sustained",
    "SweepTrial",
    "Swept",
    "is_profile",
    "load",
    "profile_of_document",
]

Seconds = Annotated[float, Field(ge=0, le=1e7)]
Lasting = Annotated[float, Field(gt=1e-9, le=1e7)]
Count = Annotated[int, Field(ge=1, le=10**12)]
Nanoseconds = Annotated[int, Field(ge=1, le=10**16)]
Spent = Annotated[int, Field(ge=0, le=10**16)]
Microjoules = Annotated[int, Field(ge=0, le=10**15)]
Bytes = Annotated[int, Field(ge=0, le=1 << 60)]
# Within these bounds nothing derived from a file overflows.

MARK = "board"
"""Key that every profile has and no other document of ours."""

PartName = Literal["cold", "steady", "sustained", "sweep", "layers", "energy"]
PARTS: tuple[PartName, ...] = ("cold", "steady", "sustained", "sweep", "layers", "energy")
"""In display order."""


class ColdStart(Record):
    """One fresh process, from its start to the first answer."""

    label: str
    process_ns: Spent = Field(description="starting Python and our measuring code, handing over the inputs")
    import_ns: Spent = Field(description="importing the runtime")
    load_ns: Nanoseconds = Field(description="ONNX file to compiled model")
    first_run_ns: Nanoseconds

    @property
    def total_ns(self) -> int:
        """Time from nothing to the first answer."""
        return self.process_ns + self.import_ns + self.load_ns + self.first_run_ns


class Cooling(Record):
    """A wait for the board to cool down."""

    before: str = Field(description="what the wait was for")
    target_celsius: Celsius | None = Field(None, description="None where no temperature is reported")
    start_celsius: Celsius | None = None
    end_celsius: Celsius | None = None
    waited_s: Seconds = 0.0
    ended: Literal["cool", "time limit", "not told"]


class Second(Record):
    """About one second of load: calls without a pause, and the state of the board at the end."""

    at_s: Seconds = Field(description="when it began, from the start of the load")
    lasted_s: Lasting
    calls: Count = Field(description="number of all calls")
    calls_ns: Annotated[tuple[Nanoseconds, ...], Field(min_length=1)] = Field(
        description="the last of them, raw; at most 256"
    )
    energy_uj: Microjoules | None = Field(None, description="of everything that is measured; None where nothing is")
    reading: Reading

    @property
    def watts(self) -> float | None:
        """Mean power during it."""
        return None if self.energy_uj is None else self.energy_uj / 1e6 / self.lasted_s


class Sustained(Record):
    """Minutes of load on one model."""

    label: str
    asked_s: Lasting
    rest: Reading = Field(description="just before the load")
    seconds: Annotated[tuple[Second, ...], Field(min_length=1)]


class Point(Record):
    """One setting."""

    backend: str
    precision: str
    threads: Annotated[int, Field(ge=1, le=1 << 20)]
    batch: Annotated[int, Field(ge=1, le=1 << 32)]
    cores: tuple[NonNegativeInt, ...] | None = Field(None, description="cores it was bound to; None: not bound")
    on: str = Field("", description="kind of these cores")

    @property
    def title(self) -> str:
        """The setting in words: ``"ort fp32, 4 threads on Cortex-A76 (big), batch 1"``."""
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        place = f" on {self.on}" if self.on else f" on cores {format_cores(self.cores)}" if self.cores else ""
        return f"{self.backend} {self.precision}, {threads}{place}, batch {self.batch}"


class SweepTrial(Record):
    """One fresh process at one setting."""

    calls_ns: Annotated[tuple[Nanoseconds, ...], Field(min_length=1)] = Field(description="timed calls, raw")
    cpu_ns: Spent = Field(description="CPU time of the process during these calls")
    peak_bytes: Bytes = Field(description="largest resident size of the process")
    energy_uj: Microjoules | None = None
    energy_calls: Annotated[int, Field(ge=0, le=10**12)] = Field(0, description="calls behind energy_uj")


class Swept(Record):
    """One model at one setting: trials, or why there are none."""

    label: str
    point: Point
    trials: tuple[SweepTrial, ...] = ()
    failure: str | None = None


class Absent(Record):
    """A missing part, and why it is missing."""

    part: PartName
    why: str


class Profile(Document):
    """``profile.json``."""

    schema_version: Literal[1] = 1
    created_utc: str
    tool_version: str
    board: Board
    results: Results = Field(description="the steady state, as deploy bench and compare write it")
    cold: tuple[ColdStart, ...] = ()
    cooling: tuple[Cooling, ...] = ()
    idle_watts: Annotated[float, Field(ge=0, le=1e6)] | None = Field(
        None, description="at rest, before anything was loaded"
    )
    idle_s: Seconds = Field(0.0, description="how long that was measured")
    sustained: tuple[Sustained, ...] = ()
    sweep: tuple[Swept, ...] = Field((), description="in the order they were tried")
    left_out: tuple[str, ...] = Field((), description="settings that the budget had no room for")
    refused: tuple[str, ...] = Field((), description="settings that a backend does not support for this file, and why")
    layers: LayerReport | None = None
    absent: tuple[Absent, ...] = ()

    @model_validator(mode="after")
    def _of_its_models(self) -> Profile:
        labels = [row.label for row in self.results.models]
        if [one.subject.label for one in self.results.all_measurements()] != labels:
            raise ValueError("results are those of one point, of each model once")
        loaded = [one.label for one in self.sustained]
        told = {*loaded, *(one.label for one in self.cold), *(one.label for one in self.sweep)}
        if not told <= set(labels) or len(set(loaded)) != len(loaded):
            raise ValueError("parts are of the models, and each has one load at most")
        return self

    def why_absent(self, part: PartName) -> str | None:
        """Return why a part is missing; None if it is present."""
        return next((one.why for one in self.absent if one.part == part), None)


def is_profile(document: dict[str, Any]) -> bool:
    """Return whether a JSON document is a profile, judging by its keys."""
    return MARK in document and "results" in document


def load(path: Path) -> Profile:
    """Read a profile.

    Raises
    ------
    ResultsError
        The file is missing, broken, or of an unknown version.
    """
    return profile_of_document(read_document(path, "profile", MARK), path)


def profile_of_document(document: dict[str, Any], path: Path) -> Profile:
    """Return the profile in a document.

    Parameters
    ----------
    document : dict
        The profile in JSON form.
    path : Path
        Path of the file, for the message.

    Raises
    ------
    ResultsError
        The document is broken, or of an unknown version.
    """
    require_version(document, (1,), path)
    results = document.get("results")
    if isinstance(results, dict):  # of an older version, perhaps
        document = {**document, "results": results_of_document(results, path)}
    return legal(Profile, document, path, "profile")
