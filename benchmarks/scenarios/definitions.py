"""Definitions of the load scenarios: their settings, the sentence shown beside each result, and equivalents elsewhere.

The scenarios are MLPerf-style: those that MLPerf LoadGen has are defined as it does. They are not MLPerf results.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

from benchmarks.errors import SettingError
from benchmarks.scenarios.waiting import SPIN_NS
from benchmarks.stats.percentile_bounds import queries_needed

__all__ = ["EQUIVALENTS", "SCENARIOS", "Device", "Equivalent", "MultiStream", "Offline", "ScenarioSettings", "Server"]

_OVER_LATENCY = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class MultiStream:
    """Several concurrent callers, each waiting for its answer.

    Parameters
    ----------
    streams : int
        Callers, at least 1; the model is compiled with as many streams.
    min_calls : int, default=662
        Minimum calls of all callers together: p99 needs 662.
    min_duration_ns : int, default=3 s
        Minimum duration. Once both minima are met, all callers stop together.
    max_calls : int, default=100 000
        Maximum calls per caller, which bounds the memory for samples.
    """

    scenario: ClassVar[Literal["multi-stream"]] = "multi-stream"
    definition: ClassVar[str] = (
        "n callers at once, each with one request in flight and the next sent when it is answered; host clock around "
        "each call, inputs in host memory to outputs in host memory; throughput is the sum of the callers' own rates"
    )

    streams: int
    min_calls: int = 662
    min_duration_ns: int = 3_000_000_000
    max_calls: int = 100_000

    def __post_init__(self) -> None:
        _at_least("streams", self.streams, 1)
        _at_least("min_calls", self.min_calls, 1)
        _at_least("min_duration_ns", self.min_duration_ns, 0)
        if self.max_calls * self.streams < self.min_calls:
            raise SettingError(f"{self.streams} streams of at most {self.max_calls} calls make no {self.min_calls}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Requests that arrive at random, and a latency bound that a percentile of them must meet.

    Parameters
    ----------
    bound_ns : int
        Latency bound in nanoseconds.
    share : float, default=0.99
        Share of requests that must meet the bound: 0.99 for p99.
    streams : int, default=1
        Streams that serve one queue.
    rate_per_s : float, optional
        Test only this rate. By default, the highest rate that meets the bound is searched for.
    start_per_s : float, optional
        Where the search starts; by default, estimated from a short run of all streams without pause.
    queries : int, optional
        Requests per probe. By default, enough for the rule to confirm the bound with 10 requests over it: 2010 for p99.
    resolution : float, default=0.02
        The search ends when the lowest rate that failed is within this share of the highest that held.
    max_probes : int, default=24
        Maximum number of rates tried.
    budget_ns : int, default=300 s
        No probe is started that would end later.
    seed : int, default=0
        Seed of the arrivals. The first probe uses it, each further one the next.
    spin_ns : int, default=200 us
        An idle stream sleeps until this long before the next arrival and then spins. See
        `benchmarks.scenarios.waiting`: 0 if streams and their helper threads exceed the cores.
    """

    scenario: ClassVar[Literal["server"]] = "server"
    definition: ClassVar[str] = (
        "requests arrive at random (Poisson) and queue without limit, k streams serve the queue in order; latency is "
        "counted from the scheduled arrival, so waiting and late issue count; the number is the highest rate of which "
        "the percentile keeps the bound by the exact binomial early-stopping rule at 99 % confidence"
    )

    bound_ns: int
    share: float = 0.99
    streams: int = 1
    rate_per_s: float | None = None
    start_per_s: float | None = None
    queries: int | None = None
    resolution: float = 0.02
    max_probes: int = 24
    budget_ns: int = 300_000_000_000
    seed: int = 0
    spin_ns: int = SPIN_NS

    def __post_init__(self) -> None:
        _at_least("bound_ns", self.bound_ns, 1)
        _at_least("streams", self.streams, 1)
        _at_least("max_probes", self.max_probes, 1)
        _at_least("budget_ns", self.budget_ns, 1)
        _at_least("seed", self.seed, 0)
        _at_least("spin_ns", self.spin_ns, 0)
        for name, rate in (("rate_per_s", self.rate_per_s), ("start_per_s", self.start_per_s)):
            if rate is not None and not 0 < rate < float("inf"):
                raise SettingError(f"{name} must be positive, got {rate}")
        if not 0 < self.resolution < 1:
            raise SettingError(f"resolution must lie between 0 and 1, got {self.resolution}")
        fewest = queries_needed(self.share, 0)
        if self.queries is not None and self.queries < fewest:
            raise SettingError(
                f"{self.queries} queries can never show p{100 * self.share:g}; it wants {fewest} or more"
            )

    @property
    def probe_queries(self) -> int:
        """Queries of one probe."""
        return queries_needed(self.share, _OVER_LATENCY) if self.queries is None else self.queries


@dataclass(frozen=True, slots=True, kw_only=True)
class Offline:
    """All examples are available at once.

    Parameters
    ----------
    calls : int
        Total calls, at least 1; the number of examples is this times the batch.
    streams : int, default=1
        Streams that share them.
    """

    scenario: ClassVar[Literal["offline"]] = "offline"
    definition: ClassVar[str] = (
        "all examples are there at once and k streams work them off without pause; examples per second from the start "
        "to the last answer"
    )

    calls: int
    streams: int = 1

    def __post_init__(self) -> None:
        _at_least("calls", self.calls, 1)
        _at_least("streams", self.streams, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """Inferences queued on a device with its own clock.

    Parameters
    ----------
    calls : int, default=1000
        Timed inferences.
    in_flight : int, default=2
        Inferences queued at once, at least 1: with two, the device does not wait for the host in between.
    """

    scenario: ClassVar[Literal["device"]] = "device"
    definition: ClassVar[str] = (
        "inferences are queued on the device so that a few are in flight, and each is timed by events on the device's "
        "own clock around its kernels; copies between host and device are not in it"
    )
    streams: ClassVar[int] = 1

    calls: int = 1000
    in_flight: int = 2

    def __post_init__(self) -> None:
        _at_least("calls", self.calls, 1)
        _at_least("in_flight", self.in_flight, 1)


ScenarioSettings: TypeAlias = MultiStream | Server | Offline | Device
SCENARIOS: dict[str, type[MultiStream] | type[Server] | type[Offline] | type[Device]] = {
    kind.scenario: kind for kind in (MultiStream, Server, Offline, Device)
}
"""The settings of each scenario by its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Equivalent:
    """A number of another tool that ours should equal on the same model and settings.

    Parameters
    ----------
    scenario, quantity : str
        Our scenario and number.
    tool, number : str
        The other tool and its name for the number.
    settings : str
        Settings that make them the same quantity.
    """

    scenario: str
    quantity: str
    tool: str
    number: str
    settings: str


def _rows(tool: str, *rows: tuple[str, str, str, str]) -> tuple[Equivalent, ...]:
    return tuple(
        Equivalent(scenario=scenario, quantity=quantity, tool=tool, number=number, settings=settings)
        for scenario, quantity, number, settings in rows
    )


EQUIVALENTS: tuple[Equivalent, ...] = (
    *_rows(
        "benchmark_app",
        (
            "request",
            "median latency",
            "latency (ms)",
            "-hint none -api sync -nstreams 1 -nthreads T",
        ),
        ("multi-stream", "throughput", "throughput", "-hint none -api async -nstreams n -nireq n -nthreads n*T"),
        ("multi-stream", "median latency", "latency (ms)", "-hint none -api async -nstreams n -nireq n -nthreads n*T"),
        ("offline", "examples per second", "throughput", "-hint none -api async -nstreams k -nireq k -niter N"),
    ),
    *_rows(
        "onnxruntime_perf_test",
        ("request", "percentiles", "P50 .. P999 Latency", "-I -x T -y 1, -c 1; it allocates the outputs in the call"),
        ("multi-stream", "throughput", "Number of inferences per second", "-I -x T -y 1 -c n"),
    ),
    *_rows(
        "LoadGen",
        ("request", "percentiles", "result_XX.XX_percentile_latency_ns", "SingleStream"),
        ("server", "percentiles of latency at a rate", "result_XX.XX_percentile_latency_ns", "Server, the same seed"),
        ("server", "bound holds", "early_stopping_met and the percentile within the bound", "Server, the same seed"),
        ("offline", "examples per second", "result_samples_per_second", "Offline"),
    ),
    *_rows(
        "trtexec",
        ("request", "median latency", "none: its latency sums spans of queries that overlap", "--exposeDMA comes near"),
        (
            "device",
            "median latency",
            "GPU Compute Time",
            "11.0 and newer: defaults; older: --noDataTransfers --useCudaGraph --useSpinWait",
        ),
        ("multi-stream", "throughput", "Throughput", "--infStreams=n --includeDataTransfers --exposeDMA"),
    ),
)
"""Equivalent numbers of other tools. LoadGen's MultiStream (one query of 8 samples) has no counterpart here."""


def _at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise SettingError(f"{name} must be at least {least}, got {value}")
