"""The machine as the runner sees it: clock, lock and observation, behind a protocol so that tests can simulate one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from benchmarks.machine.energy import EnergyMeter
from benchmarks.machine.environment import Watch
from benchmarks.machine.fitness import judge_fitness
from benchmarks.machine.interference import NoiseWatch
from benchmarks.machine.lock import machine_lock
from benchmarks.machine.noise_floor import best_probe, fingerprint, keep_best_probe
from benchmarks.machine.probe import Probe, ProbeResult, calibrate
from benchmarks.records.measurement import Conditions, Environment
from benchmarks.records.noise import Noise

__all__ = ["Machine", "Observer", "ThisMachine"]

Say = Callable[[str], None]


class Observer(Protocol):
    """Observes the machine during a measurement."""

    def environment(self, *, gpu: bool) -> Environment:
        """Return the description of the machine, without the versions of runtimes not loaded yet."""

    def follow(self, pid: int) -> None:
        """Treat a process that was just started as measured."""

    def look(self) -> None:
        """Sample between two blocks; call it a last time before a measured process ends."""

    def energy(self) -> EnergyMeter | None:
        """Return the energy meter, not started; None if there is none."""

    def between_trials(self) -> None:
        """Probe the machine, while no measured process is alive."""

    def so_far(self, versions: Mapping[str, str], *, gpu: bool, threads: int) -> Conditions:
        """Return the conditions so far; the observation continues."""

    def finish(self, versions: Mapping[str, str], *, gpu: bool, threads: int) -> Conditions:
        """Return the conditions, after all measured processes have ended and been waited for."""


class Machine(Protocol):
    """What the runner needs from a machine."""

    def now_s(self) -> float:
        """Return seconds since an arbitrary start."""

    def measuring(self, purpose: str, say: Say) -> AbstractContextManager[Observer]:
        """Lock out other measurements, and observe."""


class ThisMachine:
    """The machine that this program runs on; implements `Machine`."""

    def now_s(self) -> float:
        """Read the monotonic clock."""
        return time.monotonic()

    @contextmanager
    def measuring(self, purpose: str, say: Say) -> Iterator[Observer]:
        """Wait until no other measurement runs on this machine, then observe it.

        Raises
        ------
        BenchmarkError
            The lock cannot be used, or this process is already measuring.
        """
        with machine_lock(purpose, say=say), Probe() as probe:
            yield _Observer(probe)


class _Observer:
    def __init__(self, probe: Probe) -> None:
        self._watch = Watch()
        self._noise = NoiseWatch(pids=[probe.pid])
        self._noise.start()
        self._probe = probe
        meter = EnergyMeter()
        self._energy = meter if meter.sources else None
        self._probes: list[ProbeResult] = [probe.run()]

    def environment(self, *, gpu: bool) -> Environment:
        return self._watch.finish(gpu=gpu)

    def follow(self, pid: int) -> None:
        self._noise.follow(pid)

    def look(self) -> None:
        self._noise.sample()

    def energy(self) -> EnergyMeter | None:
        return self._energy

    def between_trials(self) -> None:
        self._probes.append(self._probe.run())

    def so_far(self, versions: Mapping[str, str], *, gpu: bool, threads: int) -> Conditions:
        return self._conditions(self._noise.finish(), versions, gpu=gpu, threads=threads, keep=False)

    def finish(self, versions: Mapping[str, str], *, gpu: bool, threads: int) -> Conditions:
        noise = self._noise.finish()
        self._probe.close()  # a child's CPU time counts as our own only after it has ended
        return self._conditions(noise, versions, gpu=gpu, threads=threads, keep=True)

    def _conditions(
        self, noise: Noise, versions: Mapping[str, str], *, gpu: bool, threads: int, keep: bool
    ) -> Conditions:
        """Judge the machine by its probes; with `keep`, store their best for this machine."""
        environment = self._watch.finish(versions, gpu=gpu)
        machine = fingerprint(environment)
        best = calibrate(self._probes, best_probe(machine))
        if keep:
            keep_best_probe(best, machine)
        fitness = judge_fitness(noise, self._probes, best, threads)
        return Conditions(environment=environment, noise=noise, fitness=fitness)
