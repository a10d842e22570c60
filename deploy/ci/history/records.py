"""What a history keeps of one run, as frozen records, which are also exported as JSON lines."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, NonNegativeInt, PositiveInt, field_validator, model_validator

from backends.reading.files import strict_json
from benchmarks.records.base import Record
from benchmarks.records.measurement import Environment, Subject
from deploy.ci.check_report import CheckRow, Commit

__all__ = ["LARGEST_NS", "KeptMeasurement", "KeptPoint", "KeptRun", "Metric", "SeriesKey", "in_order"]

LARGEST_NS = 2**63 - 1
"""Largest duration of one call that a sample can hold."""

Metric: TypeAlias = Literal[
    "p50_ns",
    "p90_ns",
    "p99_ns",
    "throughput_per_s",
    "peak_bytes",
    "load_ns",
    "speedup",
    "accuracy",
    "psnr",
    "file_bytes",
    "macs",
    "parameters",
]
Number: TypeAlias = Annotated[float, Field(ge=-1e30, le=1e30)]
"""Bounded so that differences and products are finite too."""
Call: TypeAlias = Annotated[int, Field(gt=0, le=LARGEST_NS)]


class SeriesKey(Record):
    """What the points of one series share; an empty string, or 0, means the series does not depend on it."""

    model: str = Field(min_length=1)
    backend: str = ""
    precision: str = ""
    threads: NonNegativeInt = Field(0, le=2**31)
    batch: NonNegativeInt = Field(0, le=2**31)
    more: str = Field(
        "", description="other settings that are not the usual ones, as JSON: device, streams, inputs, shapes, cores"
    )
    machine: str = Field(
        "", description="fingerprint; empty where the number is the same on all machines, such as a file's size"
    )
    metric: Metric

    @field_validator("more")
    @classmethod
    def _an_object(cls, given: str) -> str:
        if given and not isinstance(strict_json(given), dict):
            raise ValueError("it is not a JSON object")
        return given


class KeptMeasurement(Record):
    """Raw samples of one model in one place: the calls of each process, not split into blocks."""

    model: str = Field(min_length=1)
    role: Literal["alone", "baseline", "candidate"]
    subject: Subject
    backend_version: str | None = None
    started_utc: str = ""
    unfit: bool = Field(False, description="whether the machine was found unfit for measuring")
    failure: str | None = Field(None, description="why there are no samples")
    trials: tuple[tuple[Call, ...], ...] = Field((), description="nanoseconds of the timed calls, one row per process")


class KeptPoint(Record):
    """One number of one series."""

    key: SeriesKey
    value: Number
    low: Number | None = Field(None, description="ends of its confidence interval")
    high: Number | None = None
    confidence: Number | None = None
    n: PositiveInt | None = Field(None, le=2**31, description="trials or pairs of trials behind the interval")
    unfit: bool = Field(False, description="measured on an unfit machine: shown, not judged")
    sha256: str
    against: str | None = Field(None, description="hash of the model that it was compared with")
    version: str | None = Field(None, description="version of the backend")


class KeptRun(Record):
    """One check, or one file of results."""

    schema_version: Literal[1] = 1
    kind: Literal["deploy history"] = "deploy history"
    created_utc: str
    source: Literal["check", "results"]
    title: str
    tool_version: str
    machine: str = Field(min_length=1, description="fingerprint")
    environment: Environment
    commit: Commit | None = None
    measurements: tuple[KeptMeasurement, ...] = ()
    points: tuple[KeptPoint, ...] = ()
    limits: tuple[CheckRow, ...] = ()

    @field_validator("created_utc")
    @classmethod
    def _a_time(cls, given: str) -> str:
        in_order(given)
        return given

    @model_validator(mode="after")
    def _one_point_a_series(self) -> KeptRun:
        if self.commit is not None:
            in_order(self.commit.committed_utc)
        if len({point.key.model_dump_json() for point in self.points}) < len(self.points):
            raise ValueError("a series has two points of one run")
        return self

    @property
    def position(self) -> str:
        """Sort key of its points in a series: time of the commit, then of the run."""
        created = in_order(self.created_utc)
        return f"{created if self.commit is None else in_order(self.commit.committed_utc)} {created}"

    @property
    def content(self) -> str:
        """Hash of what was measured, when and at which commit: equal for the same run from any source."""
        measured = {
            "created": in_order(self.created_utc),
            "machine": self.machine,
            "title": self.title,
            "commit": self.commit and [self.commit.sha, self.commit.dirty],
            "samples": [[one.model, one.role, one.subject.sha256, one.trials] for one in self.measurements],
            "limits": [[row.where, row.limit, row.verdict, row.observed] for row in self.limits],
        }
        return hashlib.sha256(json.dumps(measured).encode()).hexdigest()


def in_order(time: str) -> str:
    """Format a time so that strings sort in time order; a time without a zone is UTC.

    Raises
    ------
    ValueError
        `time` is not an ISO 8601 time.

    >>> in_order("2026-01-02T03:04:05+02:00")
    '20260102010405000000'
    """
    read = datetime.fromisoformat(time)
    try:
        read = (read if read.tzinfo else read.replace(tzinfo=UTC)).astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"{time!r} is not a valid time") from error
    return f"{read:%Y%m%d%H%M%S%f}".zfill(20)
