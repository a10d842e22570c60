"""Records of measurements and comparisons: frozen, with a versioned JSON form.

Summaries (percentiles, ratios) are derived from raw samples and never stored without them. Durations are integer
nanoseconds, sizes integer bytes.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from benchmarks.records.base import Record
from benchmarks.records.memory import MemoryPhase
from benchmarks.records.noise import Noise

__all__ = [
    "SCHEMA_VERSION",
    "Agreement",
    "ColdCosts",
    "Comparison",
    "CompileCost",
    "Conditions",
    "Cost",
    "Environment",
    "Fitness",
    "Interval",
    "Measurement",
    "Memory",
    "NodeCost",
    "Reason",
    "Subject",
    "Trial",
]

SCHEMA_VERSION = 2


class Subject(Record):
    """What is measured: one ONNX file under one backend with explicit options."""

    label: str = Field(description="short name for tables, for example 'dense' or 'pruned'")
    model: str = Field(description="name of the ONNX file, without its folder")
    sha256: str = Field(description="content hash over the ONNX file and its external data")
    backend: str
    precision: str = "fp32"
    threads: PositiveInt = 1
    device: str = "cpu"
    batch: PositiveInt = Field(1, description="value given to a free batch dimension; images per call")
    inputs: PositiveInt = Field(1, description="given inputs, used in turn, each for a whole call")
    streams: PositiveInt = Field(1, description="inferences that may be in flight at once")
    shapes: dict[str, tuple[NonNegativeInt, ...]] = Field(
        default_factory=dict, description="sizes given to inputs with other free dimensions"
    )
    cores: tuple[NonNegativeInt, ...] | None = Field(None, description="cores it was bound to; None: not bound")


class Agreement(Record):
    """How far the compiled model's answers are from the reference, checked before any timing."""

    # An infinite error is written as a string: JSON has no number for it.
    model_config = ConfigDict(ser_json_inf_nan="strings")

    reference: str = Field(description="where the reference outputs come from")
    max_abs_error: float = Field(description="largest |answer - reference|, in the output that agrees least")
    output_range: float = Field(
        description="max - min of the finite reference of that output, at least a share of its magnitude that depends "
        "on the precision; its magnitude if constant"
    )
    tolerance: float = Field(description="allowed max_abs_error as a share of output_range")
    rounding: float = Field(
        0.0, description="how far rounding alone may move that output, considered where tolerance is exceeded"
    )
    n_inputs: PositiveInt = Field(description="examples compared")
    ok: bool

    @property
    def allowed(self) -> float:
        """Largest error attributed to rounding."""
        return max(self.tolerance * self.output_range, self.rounding)


class Memory(Record):
    """Resident memory of the measured process, in bytes; never virtual size."""

    baseline_bytes: NonNegativeInt = Field(description="peak before the model was touched: interpreter and runtime")
    peak_bytes: NonNegativeInt = Field(description="peak of the whole process (VmHWM)")
    phases: tuple[MemoryPhase, ...] = Field((), description="phases of the process's life; empty in files of version 1")
    weights_bytes: NonNegativeInt | None = Field(
        None, description="weights, as reported by the runtime; None where it reports none"
    )

    @property
    def steady_bytes(self) -> int | None:
        """Proportional set size (PSS) after the timed blocks; None if not known."""
        return next((phase.pss_bytes for phase in self.phases if phase.name == "steady"), None)

    @property
    def model_bytes(self) -> int:
        """Memory the model added to the peak of the process."""
        return max(0, self.peak_bytes - self.baseline_bytes)


class Trial(Record):
    """One fresh process of one model. Calls within a trial are not independent samples; trials are."""

    order: NonNegativeInt = Field(description="position of this process in the schedule")
    import_ns: NonNegativeInt = Field(description="importing the runtime")
    load_ns: PositiveInt = Field(description="ONNX file to compiled model")
    first_run_ns: PositiveInt
    warmup_ns: tuple[int, ...] = Field(description="calls before the steady state, raw; of many, the first thousand")
    warmup_calls: NonNegativeInt = Field(0, description="number of warm-up calls; 0 in files that do not record it")
    warmup_total_ns: NonNegativeInt = Field(
        0, description="total time of the warm-up calls; 0 in files that do not record it"
    )
    warmup_ended: Literal["steady", "budget"] = Field(description="why the warm-up ended")
    blocks_ns: tuple[Annotated[tuple[PositiveInt, ...], Field(min_length=1)], ...] = Field(
        min_length=1, description="timed calls, raw, grouped into the blocks in which they were made"
    )
    cpu_ns: NonNegativeInt = Field(description="CPU time of the process during the timed blocks")
    involuntary_switches: NonNegativeInt = Field(0, description="context switches forced during the timed blocks")
    energy_uj: NonNegativeInt | None = Field(
        None,
        description="microjoules of the whole package or board during all blocks; None where energy is not measured",
    )
    energy_calls: NonNegativeInt = Field(
        0, description="calls behind energy_uj, including the untimed ones at hand-over"
    )
    memory: Memory
    executed_precision: str
    properties: dict[str, str] = Field(default_factory=dict, description="read back from the runtime")

    @property
    def steady_ns(self) -> int:
        """Time from the compiled model to the steady state: the first run and the warm-up."""
        return self.first_run_ns + (self.warmup_total_ns or sum(self.warmup_ns))

    @property
    def calls_ns(self) -> tuple[int, ...]:
        """All timed calls in the order in which they were made."""
        return tuple(ns for block in self.blocks_ns for ns in block)


class Environment(Record):
    """The machine at the time of measuring; a fact that cannot be read is None, not guessed."""

    hostname_sha256: str | None = Field(None, description="hashed, because results get shared")
    system: str
    cpu: str | None
    cpu_cores: PositiveInt = Field(description="cores this process may use")
    memory_bytes: PositiveInt
    python: str
    packages: dict[str, str] = Field(description="versions of everything involved")
    governor: str | None = None
    load_average: float | None = Field(None, description="1-minute average, at the start")
    steal_fraction: float | None = Field(None, description="CPU time taken by the hypervisor while measuring")
    busy_fraction: float | None = Field(
        None, description="share of the machine's CPU time used by other processes while measuring"
    )
    gpu: str | None = None
    driver: str | None = None
    virtual_machine: bool | None = None


class Reason(Record):
    """One reason to doubt the numbers."""

    severity: Literal["doubtful", "unfit"]
    words: str = Field(description="what was observed, with its figure")

    def __str__(self) -> str:
        return self.words


class Fitness(Record):
    """Whether the machine was fit for measuring."""

    reasons: tuple[Reason, ...] = Field((), description="the severe ones first; empty when the machine was fit")

    @property
    def verdict(self) -> Literal["fit", "doubtful", "unfit"]:
        """The worst of the reasons: "unfit" means that the numbers should not be believed at all."""
        return self.reasons[0].severity if self.reasons else "fit"


class Conditions(Record):
    """State of the machine during a measurement; None where it was not observed."""

    environment: Environment
    noise: Noise | None = None
    fitness: Fitness | None = None


class CompileCost(Record):
    """Cost of compiling or loading a model."""

    compiled_ns: PositiveInt = Field(
        description="compiling without the cache: just now, or when the loaded cache entry was made"
    )
    loaded_ns: PositiveInt | None = Field(
        None, description="loading from the cache: reading, checking, importing; None when it was compiled"
    )
    stored_bytes: NonNegativeInt | None = Field(None, description="size of the file in the cache; None: there is none")
    from_cache: bool
    reason: str = Field("", description="why nothing is stored; empty otherwise")


class ColdCosts(Record):
    """Cost of compiling one model in a fresh process, with and without the cache of compiled models."""

    without_cache: CompileCost
    with_cache: CompileCost | None = Field(None, description="None where the runtime cannot cache what it compiled")


class Measurement(Record):
    """Raw samples of one subject, with all that is needed to judge them. It has either trials or a failure."""

    schema_version: Literal[2] = 2
    subject: Subject
    backend_version: str | None = None
    scenario: Literal["request"] = Field(
        "request", description="host clock, depth 1, inputs in host memory to outputs in host memory"
    )
    environment: Environment
    noise: Noise | None = Field(None, description="what else the machine did; None where not recorded")
    fitness: Fitness | None = Field(
        None, description="whether the machine was fit for measuring; None where not recorded"
    )
    agreement: Agreement | None = None
    trials: tuple[Trial, ...] = ()
    cold: ColdCosts | None = Field(None, description="cost of compiling; None where not requested")
    failure: str | None = Field(None, description="one line: why there are no samples")
    failure_kind: str | None = Field(
        None, description="class of the error behind it, for example 'ModelLoadError' or 'WrongAnswersError'"
    )
    doubts: tuple[str, ...] = Field((), description="what makes the numbers doubtful, in words")
    seed: int = 0
    budget_s: PositiveFloat | None = Field(
        None, description="time limit in seconds; None in files that do not record it"
    )
    ended: str = Field("", description="why no further trial was run, in words; empty in files that do not record it")
    started_utc: str = ""

    @property
    def unfit(self) -> bool:
        """Whether the machine was found unfit for measuring."""
        return self.fitness is not None and self.fitness.verdict == "unfit"

    @property
    def cpu_ns_per_call(self) -> float | None:
        """CPU time of all threads of the process per timed call; None if there are no trials."""
        n_calls = sum(len(trial.calls_ns) for trial in self.trials)
        return sum(trial.cpu_ns for trial in self.trials) / n_calls if n_calls else None

    @property
    def energy_uj_per_call(self) -> float | None:
        """Microjoules of the whole package or board per call; None if they are not measured."""
        counted = [trial for trial in self.trials if trial.energy_uj is not None and trial.energy_calls]
        if not counted:
            return None
        return sum(trial.energy_uj or 0 for trial in counted) / sum(trial.energy_calls for trial in counted)

    @model_validator(mode="after")
    def _trials_or_failure(self) -> Measurement:
        if bool(self.trials) == (self.failure is not None):
            raise ValueError("a measurement has either trials or a failure")
        return self


class Interval(Record):
    """A number with its confidence interval."""

    value: float
    low: float
    high: float
    confidence: float = Field(gt=0, lt=1)
    n: PositiveInt = Field(description="independent samples (trials or pairs of trials) behind it")

    @model_validator(mode="after")
    def _ordered(self) -> Interval:
        if not self.low <= self.value <= self.high:
            raise ValueError(f"interval [{self.low}, {self.high}] does not hold its value {self.value}")
        return self


class NodeCost(Record):
    """Cost of one ONNX node, for one example."""

    name: str
    op: str
    macs: NonNegativeInt
    parameters: NonNegativeInt
    activation_bytes: NonNegativeInt = Field(description="bytes of its outputs")


class Cost(Record):
    """Theoretical cost of a network for one example (batch 1)."""

    macs: NonNegativeInt = Field(description="multiply-accumulates of convolutions and matrix products")
    parameters: NonNegativeInt
    weight_bytes: NonNegativeInt
    activation_bytes: NonNegativeInt
    file_bytes: NonNegativeInt = Field(description="ONNX file with its external data")
    nodes: tuple[NodeCost, ...] = ()
    unknown: tuple[str, ...] = Field(
        (), description="nodes with unknown MACs, and why; if there are any, macs is a lower bound"
    )
    uncounted: tuple[str, ...] = Field((), description="names of the affected nodes of the graph itself")
    unsized: NonNegativeInt = Field(
        0, description="number of node outputs of unknown size; if there are any, activation_bytes is a lower bound"
    )
    from_run: bool = Field(False, description="whether data-dependent parts were counted in a run on the inputs")

    @property
    def flops(self) -> int:
        """FLOPs = 2 x MACs."""
        return 2 * self.macs


class Comparison(Record):
    """Two subjects measured interleaved on one machine."""

    schema_version: Literal[2] = 2
    baseline: Measurement
    candidate: Measurement
    baseline_cost: Cost
    candidate_cost: Cost
    speedup: Interval | None = Field(
        None,
        description="median latency of the baseline over that of the candidate; None when one of them failed",
    )
    log_ratios: tuple[float, ...] = Field((), description="one per pair of trials: log(baseline / candidate)")
    margin: PositiveFloat = Field(0.03, description="smallest effect that counts, as a share")
    ended: str = Field("", description="why no further pair was run, in words; empty in files that do not record it")
    verdict: Literal["faster", "slower", "equivalent", "inconclusive", "failed"]

    @property
    def sides(self) -> tuple[Measurement, Measurement]:
        """Baseline and candidate."""
        return self.baseline, self.candidate

    @property
    def unfit(self) -> bool:
        """Whether one of the two was measured while the machine was unfit."""
        return any(side.unfit for side in self.sides)

    @property
    def flop_ratio(self) -> float | None:
        """Theoretical speed-up: FLOPs of the baseline over those of the candidate; None if one is not known."""
        if self.baseline_cost.unknown or self.candidate_cost.unknown:
            return None
        return self.baseline_cost.macs / max(1, self.candidate_cost.macs)

    @property
    def realised(self) -> float | None:
        """Measured speed-up over FLOP ratio: 1 if fully realised; None if one of the two is missing."""
        promise = self.flop_ratio
        return self.speedup.value / promise if self.speedup is not None and promise else None
