"""Measure a model under load: one of the scenarios of `benchmarks.scenarios`, in a separate measured process.

The answers are checked and the model is warmed up before the load starts, as in `benchmarks.runner`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Literal

from pydantic import Field, model_validator

from backends.base import Array
from benchmarks.answers.reference import Reference
from benchmarks.arm import PreparedArm
from benchmarks.errors import RandomAnswersError, WorkerError, WrongAnswersError
from benchmarks.machine.environment import cores_available
from benchmarks.machine.machine import Machine, ThisMachine
from benchmarks.process.measured import Loaded, MeasuredProcess
from benchmarks.records.base import Record
from benchmarks.records.measurement import Agreement, Environment, Fitness, Subject
from benchmarks.records.noise import Noise
from benchmarks.scenarios import (
    Offline,
    ScenarioResult,
    ScenarioSettings,
    Server,
    offline_calls,
    parse,
    question_of,
    spin_ns_for,
)
from benchmarks.settings import Settings
from benchmarks.subject.subject import SubjectSpec

__all__ = ["LoadMeasurement", "OfflineFor", "measure_load"]

_FIT_TO_WORK_OFF_S = 10.0


class OfflineFor:
    """Offline scenario with as many calls as are expected to take the given time.

    Parameters
    ----------
    streams : int
        Streams that share the calls.
    seconds : float
        Target duration.
    """

    scenario = Offline.scenario

    def __init__(self, *, streams: int = 1, seconds: float = _FIT_TO_WORK_OFF_S) -> None:
        self.streams = streams
        self.seconds = seconds

    def settings(self, call_ns: float) -> Offline:
        """Return the settings for a model whose warm call takes `call_ns` nanoseconds."""
        calls = offline_calls(call_ns, self.streams, round(1e9 * self.seconds))
        return Offline(calls=calls, streams=self.streams)


class LoadMeasurement(Record):
    """One model under one load: raw samples, or why there are none."""

    schema_version: Literal[1] = 1
    subject: Subject
    backend_version: str | None = None
    environment: Environment
    noise: Noise | None = None
    fitness: Fitness | None = None
    agreement: Agreement | None = None
    executed_precision: str | None = None
    properties: dict[str, str] = Field(default_factory=dict, description="read back from the runtime")
    result: ScenarioResult | None = Field(None, description="None when the measurement failed")
    failure: str | None = Field(None, description="one line: why there are no samples")
    failure_kind: str | None = None
    seed: int = 0
    started_utc: str = ""

    @property
    def unfit(self) -> bool:
        """Whether the machine was found unfit for measuring."""
        return self.fitness is not None and self.fitness.verdict == "unfit"

    @model_validator(mode="after")
    def _result_or_failure(self) -> LoadMeasurement:
        if (self.result is None) == (self.failure is None):
            raise ValueError("a measurement under load has either a result or a failure")
        return self


def measure_load(
    spec: SubjectSpec,
    scenario: ScenarioSettings | OfflineFor,
    *,
    feeds: Mapping[str, Array] | None = None,
    reference: Reference | None = None,
    settings: Settings | None = None,
    progress: Callable[[str], None] | None = None,
    machine: Machine | None = None,
) -> LoadMeasurement:
    """Measure one model under a load.

    Parameters
    ----------
    spec : SubjectSpec
        The model to measure; it is compiled for the streams of the scenario.
    scenario : MultiStream, Server, Offline or OfflineFor
        The load.
    feeds, reference, progress, machine
        See `benchmarks.runner.measure`.
    settings : Settings, optional
        Warm-up, seed and time-out.

    Returns
    -------
    LoadMeasurement
        With ``failure`` if the model could not be compiled, answered wrongly, or its process died or hung.

    Raises
    ------
    InputError
        No inputs can be made, or the reference does not fit.
    BackendError
        The file is missing or broken, or there is no such backend.
    """
    settings, say = settings or Settings(), progress or (lambda _: None)
    spec = replace(spec, options=replace(spec.options, streams=scenario.streams))
    arm = PreparedArm.prepare(spec, feeds, reference, settings, say)
    machine = machine or ThisMachine()
    loaded: Loaded | None = None
    result: ScenarioResult | None = None
    with machine.measuring(f"{arm.subject.label} on {arm.subject.backend}", say) as observer:
        started_utc = datetime.now(UTC).isoformat(timespec="seconds")
        say(f"{arm.subject.label} on {arm.subject.backend}: {scenario.scenario}, streams: {scenario.streams}")
        process = MeasuredProcess(spec, timeout_s=settings.timeout_s, call_timeout_s=settings.call_timeout_s)
        try:
            observer.follow(process.pid)
            arm.require_prepared()
            loaded = process.load(arm.feeds, arm.others)
            arm.verify(process)
            warm = process.warm_up(settings.warm_up)
            asked = _asked(scenario, warm.latency_ns, loaded)
            question = question_of(asked)
            answer, arrays = process.scenario(question, scenario.streams)
            observer.look()
            result = parse(question, answer, arrays, batch=arm.subject.batch)
        except WorkerError as error:
            arm.fail(error, error.kind)
        except (WrongAnswersError, RandomAnswersError) as error:
            arm.fail(error, type(error).__name__)
        finally:
            process.close()
        versions = {spec.backend: loaded.backend_version} if loaded and loaded.backend_version else {}
        conditions = observer.finish(versions, gpu=spec.options.device != "cpu", threads=spec.options.threads)
    return LoadMeasurement(
        subject=arm.subject,
        backend_version=loaded.backend_version if loaded else None,
        environment=conditions.environment,
        noise=conditions.noise,
        fitness=conditions.fitness,
        agreement=arm.agreement,
        executed_precision=loaded.executed_precision if loaded else None,
        properties=loaded.properties if loaded else {},
        result=result,
        failure=arm.failure,
        failure_kind=arm.failure_kind,
        seed=settings.seed,
        started_utc=started_utc,
    )


def _asked(scenario: ScenarioSettings | OfflineFor, call_ns: float, loaded: Loaded) -> ScenarioSettings:
    """Complete the settings that depend on the compiled model: number of calls, and whether idle streams may spin."""
    if isinstance(scenario, OfflineFor):
        return scenario.settings(call_ns)
    if isinstance(scenario, Server):
        computing = int(loaded.properties.get("compute_threads", scenario.streams))
        return replace(scenario, spin_ns=min(scenario.spin_ns, spin_ns_for(computing, cores_available())))
    return scenario
