"""A simulated machine: its behaviour is known exactly, so the procedures that measure it can be judged.

`SimulatedMachine.launch` replaces a measured process in `benchmarks.runner`. Time is a number that advances with each
call; nothing waits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median

import numpy as np

from backends.base import Array
from benchmarks.errors import SettingError, WorkerError
from benchmarks.machine.machine import Observer
from benchmarks.process.measured import Closing, Loaded, Warm
from benchmarks.process.warmup import WarmUpLimits
from benchmarks.records.measurement import Conditions, Environment, Memory
from benchmarks.subject.subject import SubjectSpec

__all__ = ["Service", "SimulatedMachine", "SimulatedProcess", "Weather"]

_WARM_UP_CALLS = 10
_TICK_NS = 5_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """Call times of a model on an idle machine. The effects multiply; by default the time is constant.

    Parameters
    ----------
    median_ns : float
        Nanoseconds of the typical call.
    sigma : float, default=0.0
        Standard deviation of the logarithm: log-normal calls.
    correlation : float, default=0.0
        Correlation of the logarithms of neighbouring calls (AR(1)), in [0, 1); it does not change `sigma`.
    slow_share, slow_factor : float
        This share of calls takes this many times as long: two modes.
    drift_per_s : float, default=0.0
        Slow-down, as a share, per second since the process started.
    throttled_after_s, throttled_factor : float
        From this second of the process on, every call takes this many times as long.
    """

    median_ns: float
    sigma: float = 0.0
    correlation: float = 0.0
    slow_share: float = 0.0
    slow_factor: float = 3.0
    drift_per_s: float = 0.0
    throttled_after_s: float = math.inf
    throttled_factor: float = 1.5

    def __post_init__(self) -> None:
        if min(self.median_ns, self.slow_factor, self.throttled_factor) <= 0 or min(self.sigma, self.drift_per_s) < 0:
            raise SettingError(f"no call takes less than no time: {self}")
        if not 0 <= self.correlation < 1 or not 0 <= self.slow_share <= 1:
            raise SettingError(f"a correlation lies in [0, 1), a share in [0, 1]: {self}")

    def slowness(self, age_ns: float) -> float:
        """Return the slow-down factor of a call that starts `age_ns` nanoseconds after its process."""
        throttled = self.throttled_factor if age_ns >= 1e9 * self.throttled_after_s else 1.0
        return throttled * (1 + self.drift_per_s * age_ns / 1e9)

    def sample(self, rng: np.random.Generator, n_calls: int, start_ns: int = 0) -> list[int]:
        """Return the durations of back-to-back calls, the first at `start_ns`; all in nanoseconds."""
        samples, now_ns = [], start_ns
        for factor in _Calls(self, rng).factors(n_calls):
            samples.append(max(1, round(self.median_ns * factor * self.slowness(now_ns))))
            now_ns += samples[-1]
        return samples


class _Calls:
    """The calls of one process: their randomness and their correlation."""

    def __init__(self, service: Service, rng: np.random.Generator) -> None:
        self._service = service
        self._rng = rng
        self._level = float(rng.standard_normal())

    def factors(self, n_calls: int) -> list[float]:
        """Return the factor by which each of the next calls differs from the median."""
        service = self._service
        levels = self._rng.standard_normal(n_calls)
        if service.correlation > 0:
            fresh = math.sqrt(1 - service.correlation**2)
            for index, step in enumerate(levels):
                self._level = service.correlation * self._level + fresh * float(step)
                levels[index] = self._level
        factors = np.exp(service.sigma * levels)
        if service.slow_share > 0:
            factors *= np.where(self._rng.random(n_calls) < service.slow_share, service.slow_factor, 1.0)
        return [float(factor) for factor in factors]


@dataclass(frozen=True, slots=True, kw_only=True)
class Weather:
    """Other load on a machine, as a time-varying factor that affects everything that runs. By default there is none.

    Parameters
    ----------
    sigma : float, default=0.0
        Standard deviation of the logarithm of a slow, random movement (AR(1) in time).
    time_constant_s : float, default=5.0
        Time constant of that movement, in seconds (correlation falls to 1 / e).
    bursts_per_s : float, default=0.0
        Rate at which bursts of other work start.
    burst_s, burst_factor : float
        Average duration of a burst, and how many times as long calls take during it.
    """

    sigma: float = 0.0
    time_constant_s: float = 5.0
    bursts_per_s: float = 0.0
    burst_s: float = 0.2
    burst_factor: float = 1.5

    def __post_init__(self) -> None:
        if min(self.sigma, self.bursts_per_s) < 0 or min(self.time_constant_s, self.burst_s, self.burst_factor) <= 0:
            raise SettingError(f"impossible weather: {self}")


class _NothingToSee:
    def environment(self, *, gpu: bool) -> Environment:  # noqa: ARG002
        """Return an environment marked as simulated."""
        return Environment(system="simulated", cpu=None, cpu_cores=1, memory_bytes=1, python="3", packages={})

    def follow(self, pid: int) -> None:
        """Do nothing."""

    def look(self) -> None:
        """Look at nothing."""

    def energy(self) -> None:
        """Do nothing."""

    def between_trials(self) -> None:
        """Look at nothing."""

    def so_far(self, versions: Mapping[str, str], *, gpu: bool, threads: int) -> Conditions:
        """Return conditions without any observations."""
        environment = self.environment(gpu=gpu)
        return Conditions(environment=environment.model_copy(update={"cpu_cores": threads, "packages": dict(versions)}))

    def finish(self, versions: Mapping[str, str], *, gpu: bool, threads: int) -> Conditions:
        """Return conditions without any observations."""
        return self.so_far(versions, gpu=gpu, threads=threads)


class SimulatedMachine:
    """Runs simulated processes on a clock of its own.

    Parameters
    ----------
    services : Mapping of str to Service
        Services by the label of the `SubjectSpec`.
    seed : int
        The same seed gives the same weather, whatever is measured.
    luck : float, default=0.0
        Spread of the logarithm of a constant factor per process (memory layout, placement).
    weather : Weather
        How much slower than an idle machine it is, and when.
    hand_over_ns : int, default=500 us
        Extra nanoseconds of the first call after a rest.
    start_ns : int, default=500 ms
        Nanoseconds from the start of a process to its first call.
    """

    def __init__(
        self,
        services: Mapping[str, Service],
        *,
        seed: int,
        luck: float = 0.0,
        weather: Weather | None = None,
        hand_over_ns: int = 500_000,
        start_ns: int = 500_000_000,
    ) -> None:
        self._services = services
        self._luck = luck
        self._weather = weather or Weather()
        self._rng, self._weather_rng = np.random.default_rng(seed).spawn(2)
        self._forecast: list[float] = []
        self._level = float(self._weather_rng.standard_normal())
        self._burst_ticks = 0
        self.hand_over_ns = hand_over_ns
        self.start_ns = start_ns
        self.now_ns = 0

    def launch(
        self,
        spec: SubjectSpec,
        *,
        timeout_s: float,  # noqa: ARG002  # it never hangs
        call_timeout_s: float | None = None,  # noqa: ARG002
    ) -> SimulatedProcess:
        """Start a process for `spec`; a `benchmarks.process.measured.Launch`.

        Raises
        ------
        SettingError
            There is no service for the label of `spec`.
        """
        service = self._services.get(spec.label)
        if service is None:
            raise SettingError(f"no service is simulated for {spec.label!r}; there are {', '.join(self._services)}")
        luck = math.exp(self._luck * float(self._rng.standard_normal()))
        return SimulatedProcess(self, service, _Calls(service, self._rng), luck)

    def now_s(self) -> float:
        """Return the simulated time; with `measuring` this is a `benchmarks.machine.machine.Machine`."""
        return self.now_ns / 1e9

    @contextmanager
    def measuring(self, purpose: str, say: Callable[[str], None]) -> Iterator[Observer]:  # noqa: ARG002  # it is alone
        """Yield an observer that sees nothing; there is no lock to take."""
        yield _NothingToSee()

    def weather_at(self, at_ns: int) -> float:
        """Return the slow-down factor of a call that starts at `at_ns`, relative to an idle machine."""
        tick = at_ns // _TICK_NS
        while tick >= len(self._forecast):
            self._forecast += self._next_ticks(4096)
        return self._forecast[tick]

    def _next_ticks(self, n_ticks: int) -> list[float]:
        weather, rng = self._weather, self._weather_rng
        kept = math.exp(-_TICK_NS / (1e9 * weather.time_constant_s))
        fresh = math.sqrt(1 - kept**2)
        levels = []
        for step in rng.standard_normal(n_ticks).tolist():
            self._level = kept * self._level + fresh * step
            levels.append(self._level)
        factors = np.exp(weather.sigma * np.asarray(levels))
        bursting = np.zeros(n_ticks, bool)
        bursting[: self._burst_ticks] = True
        self._burst_ticks = max(0, self._burst_ticks - n_ticks)
        for start in np.flatnonzero(rng.random(n_ticks) < weather.bursts_per_s * _TICK_NS / 1e9).tolist():
            length = 1 + int(rng.exponential(1e9 * weather.burst_s / _TICK_NS))
            bursting[start : start + length] = True
            self._burst_ticks = max(self._burst_ticks, start + length - n_ticks)
        return [float(factor) for factor in np.where(bursting, weather.burst_factor, 1.0) * factors]


class SimulatedProcess:
    """One process of a simulated machine; implements `benchmarks.process.measured.MeasuredWorker`."""

    def __init__(self, machine: SimulatedMachine, service: Service, calls: _Calls, luck: float) -> None:
        self._machine = machine
        self._service = service
        self._calls = calls
        self._luck = luck
        self._born_ns = machine.now_ns
        self._idle_ns = self._timed_ns = 0.0
        self._rested = False

    @property
    def pid(self) -> int:
        """An id that no process has."""
        return 0

    def load(
        self,
        feeds: Mapping[str, Array],  # noqa: ARG002  # it computes nothing
        others: Sequence[Mapping[str, Array]] = (),  # noqa: ARG002
    ) -> Loaded:
        """Advance the clock by the start time of a process."""
        machine = self._machine
        machine.now_ns += machine.start_ns
        third = max(1, machine.start_ns // 3)
        return Loaded(
            import_ns=third,
            load_ns=third,
            first_run_ns=third,
            executed_precision="fp32",
            properties={},
            backend_version=None,
        )

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Raise an error: a simulated process has no answers.

        Raises
        ------
        WorkerError
            Always.
        """
        raise WorkerError(f"a simulated process has no answers to {', '.join(feeds)}; use the backend 'null'")

    def warm_up(self, limits: WarmUpLimits) -> Warm:  # noqa: ARG002  # warm from the start
        """Make a few calls; the process is warm from the start."""
        samples = self._call(_WARM_UP_CALLS)
        return Warm(
            calls_ns=tuple(samples),
            n_calls=len(samples),
            total_ns=sum(samples),
            ended="steady",
            latency_ns=median(samples),
        )

    def block(self, n_calls: int, n_dropped: int) -> tuple[int, ...]:
        """Make `n_dropped` calls, then return the nanoseconds of `n_calls` more."""
        self._call(n_dropped)
        before_ns = self._idle_ns
        samples = self._call(n_calls)
        self._timed_ns += self._idle_ns - before_ns
        return tuple(samples)

    def rest(self) -> None:
        """Rest until `wake`."""
        self._rested = True

    def wake(self) -> None:
        """End a rest; the next call takes longer."""

    def finish(self) -> Closing:
        """Return the totals; CPU time is what the timed calls would have taken on an idle machine."""
        memory = Memory(baseline_bytes=1, peak_bytes=2)
        return Closing(cpu_ns=round(self._timed_ns), involuntary_switches=0, memory=memory)

    def close(self) -> None:
        """Do nothing; there is no process to end."""

    def _call(self, n_calls: int) -> list[int]:
        machine, samples = self._machine, []
        for factor in self._calls.factors(n_calls):
            idle_ns = self._service.median_ns * self._luck * factor
            idle_ns *= self._service.slowness(machine.now_ns - self._born_ns)
            if self._rested:
                idle_ns += machine.hand_over_ns
                self._rested = False
            samples.append(max(1, round(idle_ns * machine.weather_at(machine.now_ns))))
            machine.now_ns += samples[-1]
            self._idle_ns += idle_ns
        return samples
