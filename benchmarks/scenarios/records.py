"""Results of the scenarios: raw samples with their settings. Every number is derived from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, TypeAlias

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from benchmarks.records.base import Record
from benchmarks.scenarios.arrivals import Nanoseconds
from benchmarks.scenarios.definitions import Device, MultiStream, Offline, Server
from benchmarks.scenarios.search import Found
from benchmarks.scenarios.server import judge
from benchmarks.stats.summary import percentile

__all__ = ["DeviceResult", "MultiStreamResult", "OfflineResult", "ScenarioResult", "ServerProbe", "ServerResult"]

_Times: TypeAlias = tuple[NonNegativeInt, ...]


class MultiStreamResult(Record):
    """Result of the multi-stream scenario: several concurrent callers."""

    scenario: Literal["multi-stream"] = "multi-stream"
    settings: MultiStream
    batch: PositiveInt = Field(1, description="examples per call")
    issued_ns: tuple[_Times, ...] = Field(description="for each caller, when it made each call; from the common start")
    done_ns: tuple[_Times, ...] = Field(
        description="for each caller, when each call was answered; from the common start"
    )

    @model_validator(mode="after")
    def _paired(self) -> MultiStreamResult:
        n_calls = [len(one) for one in self.issued_ns]
        if len(n_calls) != self.settings.streams or n_calls != [len(one) for one in self.done_ns] or not all(n_calls):
            raise ValueError("every caller has calls, and each call a beginning and an end")
        return self

    @property
    def latencies_ns(self) -> Nanoseconds:
        """Latency in nanoseconds of each call of all callers, in the order in which they were made."""
        issued, done = (_array([ns for one in times for ns in one]) for times in (self.issued_ns, self.done_ns))
        return (done - issued)[np.argsort(issued, kind="stable")]

    @property
    def throughput_per_s(self) -> float:
        """Examples per second of all callers: the sum of their rates, each over its own time."""
        pairs = zip(self.issued_ns, self.done_ns, strict=True)
        return sum(1e9 * self.batch * len(done) / max(1, done[-1] - issued[0]) for issued, done in pairs)

    def percentile_ns(self, share: float) -> int:
        """Return a percentile of the latencies in nanoseconds; see `benchmarks.stats.summary.percentile`."""
        return percentile(self.latencies_ns, share)


class ServerProbe(Record):
    """One arrival rate that was tried. Requests not served after an early stop have no samples."""

    rate_per_s: PositiveFloat
    seed: NonNegativeInt = Field(description="seed of the arrivals")
    planned: PositiveInt = Field(description="requests that were to be served")
    bound_ns: PositiveInt
    share: float = Field(gt=0, lt=1, description="share of the requests that must keep the bound")
    streams: PositiveInt
    scheduled_ns: _Times = Field(description="scheduled arrival of each request, from the common start")
    issued_ns: _Times = Field(description="when a stream began to serve it")
    done_ns: _Times = Field(description="when it was answered")

    @model_validator(mode="after")
    def _complete(self) -> ServerProbe:
        if not 0 < len(self.scheduled_ns) == len(self.issued_ns) == len(self.done_ns) <= self.planned:
            raise ValueError("every served request has an arrival, a beginning and an end")
        return self

    @property
    def latencies_ns(self) -> Nanoseconds:
        """Time from the scheduled arrival of each request to its answer, in nanoseconds."""
        return _array(self.done_ns) - _array(self.scheduled_ns)

    @property
    def n_over(self) -> int:
        """Requests over the bound."""
        return int((self.latencies_ns > self.bound_ns).sum())

    @property
    def holds(self) -> bool:
        """Whether the percentile meets the bound, by the early-stopping rule."""
        return judge(self.latencies_ns, self.planned, self.bound_ns, self.share)

    def percentile_ns(self, share: float) -> int:
        """Return a percentile of the latencies in nanoseconds; see `benchmarks.stats.summary.percentile`."""
        return percentile(self.latencies_ns, share)


class ServerResult(Record):
    """Result of the server scenario: the highest arrival rate that meets the bound, with all probes."""

    scenario: Literal["server"] = "server"
    settings: Server
    batch: PositiveInt = Field(1, description="examples per request")
    probes: Annotated[tuple[ServerProbe, ...], Field(min_length=1)]
    ended: Literal["resolved", "probes", "time", "one rate"] = Field(description="why the search ended")

    @property
    def found(self) -> Found[ServerProbe]:
        """The bracket: `held_per_s` is the result, `failed_per_s` a rate known to be too high."""
        return Found(tuple((probe.rate_per_s, probe) for probe in self.probes), self.ended)


class OfflineResult(Record):
    """Result of the offline scenario: all examples at once."""

    scenario: Literal["offline"] = "offline"
    settings: Offline
    batch: PositiveInt = Field(1, description="examples per call")
    issued_ns: _Times = Field(description="when each call was started, from the common start")
    done_ns: _Times = Field(description="when it was answered")

    @model_validator(mode="after")
    def _complete(self) -> OfflineResult:
        if not len(self.issued_ns) == len(self.done_ns) == self.settings.calls:
            raise ValueError("every call has a beginning and an end")
        return self

    @property
    def throughput_per_s(self) -> float:
        """Examples per second, from the first call to the last answer."""
        return 1e9 * self.batch * len(self.done_ns) / max(1, max(self.done_ns) - min(self.issued_ns))


class DeviceResult(Record):
    """Inferences timed by the device's own clock."""

    scenario: Literal["device"] = "device"
    settings: Device
    batch: PositiveInt = Field(1, description="examples per inference")
    device_ns: Annotated[_Times, Field(min_length=1)] = Field(
        description="duration of each inference, on the device's clock"
    )
    replays_graph: bool = Field(description="whether the kernels were launched as one captured graph")

    @property
    def latencies_ns(self) -> Nanoseconds:
        """Latency of each inference, in nanoseconds."""
        return _array(self.device_ns)


ScenarioResult: TypeAlias = Annotated[
    MultiStreamResult | ServerResult | OfflineResult | DeviceResult, Field(discriminator="scenario")
]


def _array(times: Sequence[int]) -> Nanoseconds:
    return np.array(times, np.int64)
