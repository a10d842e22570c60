"""The nouns of measuring, as frozen records with a versioned JSON form.

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
    inputs: PositiveInt = Field(1, description="inputs that were given and take turns, each a whole call")
    streams: PositiveInt = Field(1, description="inferences that may be in flight")
    shapes: dict[str, tuple[NonNegativeInt, ...]] = Field(
        default_factory=dict, description="sizes given to inputs with other free dimensions"
    )
    cores: tuple[NonNegativeInt, ...] | None = Field(None, description="cores it was bound to; None: not bound")


class Agreement(Record):
    """How far the compiled model's answers are from the reference, checked before any timing."""

    # An error of infinity is written as a word: JSON has no number for it.
    model_config = ConfigDict(ser_json_inf_nan="strings")

    reference: str = Field(description="where the reference outputs come from")
    max_abs_error: float = Field(description="largest |answer - reference|, of the output that agrees least")
    output_range: float = Field(
        description="max - min of the finite reference of that output, at least a share of its magnitude that depends "
        "on the precision; its magnitude if constant"
    )
    tolerance: float = Field(description="allowed max_abs_error as a share of output_range")
    rounding: float = Field(
        0.0, description="how far rounding alone may move that output, looked at where tolerance is exceeded"
    )
    n_inputs: PositiveInt = Field(description="examples compared")
    ok: bool

    @property
    def allowed(self) -> float:
        """Largest error that is taken for rounding."""
        return max(self.tolerance * self.output_range, self.rounding)


class Memory(Record):
    """Resident memory of the measured process, in bytes; never virtual size."""

    baseline_bytes: NonNegativeInt = Field(description="peak before the model was touched: interpreter and runtime")
    peak_bytes: NonNegativeInt = Field(description="peak of the whole process (VmHWM)")
    phases: tuple[MemoryPhase, ...] = Field((), description="of the process's life; none in files of version 1")
    weights_bytes: NonNegativeInt | None = Field(
        None, description="weights, as reported by the runtime; None where it reports none"
    )

    @property
    def steady_bytes(self) -> int | None:
        """Proportional share of memory (PSS) after the timed blocks; None where it is not known."""
        return next((phase.pss_bytes for phase in self.phases if phase.name == "steady"), None)

    @property
    def model_bytes(self) -> int:
        """What the model added to the peak of the process."""
        return max(0, self.peak_bytes - self.baseline_bytes)


class Trial(Record):
    """One fresh process of one model. Calls inside a trial are not independent samples; trials are."""

    order: NonNegativeInt = Field(description="position of this process in the schedule")
    import_ns: NonNegativeInt = Field(description="import of the runtime")
    load_ns: PositiveInt = Field(description="ONNX file to compiled model")
    first_run_ns: PositiveInt
    warmup_ns: tuple[int, ...] = Field(description="calls before the steady state, raw; of many, the first thousand")
    warmup_calls: NonNegativeInt = Field(0, description="how many there were; 0 in files that do not say")
    warmup_total_ns: NonNegativeInt = Field(0, description="time of all of them; 0 in files that do not say")
    warmup_ended: Literal["steady", "budget"] = Field(description="why warming up ended")
    blocks_ns: tuple[Annotated[tuple[PositiveInt, ...], Field(min_length=1)], ...] = Field(
        min_length=1, description="timed calls, raw, grouped in the blocks in which they were made"
    )
    cpu_ns: NonNegativeInt = Field(description="CPU time of the process during the timed blocks")
    involuntary_switches: NonNegativeInt = Field(0, description="context switches forced during the timed blocks")
    energy_uj: NonNegativeInt | None = Field(
        None, description="microjoules of the whole package or board during all blocks; None where nothing counts them"
    )
    energy_calls: NonNegativeInt = Field(0, description="calls behind energy_uj: also those at hand-over, not timed")
    memory: Memory
    executed_precision: str
    properties: dict[str, str] = Field(default_factory=dict, description="read back from the runtime")

    @property
    def steady_ns(self) -> int:
        """From the compiled model to the steady state: the first run and the warm-up."""
        return self.first_run_ns + (self.warmup_total_ns or sum(self.warmup_ns))

    @property
    def calls_ns(self) -> tuple[int, ...]:
        """All timed calls in the order in which they were made."""
        return tuple(ns for block in self.blocks_ns for ns in block)


class Environment(Record):
    """The machine at the time of measuring; a fact that cannot be read is None, not guessed."""

    hostname_sha256: str | None = Field(None, description="hashed: results travel")
    system: str
    cpu: str | None
    cpu_cores: PositiveInt = Field(description="cores this process may use")
    memory_bytes: PositiveInt
    python: str
    packages: dict[str, str] = Field(description="versions of what took part")
    governor: str | None = None
    load_average: float | None = Field(None, description="1 minute, at the start")
    steal_fraction: float | None = Field(None, description="CPU time taken by the hypervisor while measuring")
    busy_fraction: float | None = Field(
        None, description="share of the machine's CPU time used by other processes while measuring"
    )
    gpu: str | None = None
    driver: str | None = None
    virtual_machine: bool | None = None


class Reason(Record):
    """One thing that speaks against the numbers."""

    severity: Literal["doubtful", "unfit"]
    words: str = Field(description="what was seen, with its figure")

    def __str__(self) -> str:
        return self.words


class Fitness(Record):
    """Whether the machine was fit to be measured on."""

    reasons: tuple[Reason, ...] = Field((), description="the grave ones first; none when it was fit")

    @property
    def verdict(self) -> Literal["fit", "doubtful", "unfit"]:
        """The worst of the reasons: "unfit" means that the numbers should not be believed at all."""
        return self.reasons[0].severity if self.reasons else "fit"


class Conditions(Record):
    """What the machine was like while something was measured; None where nobody looked."""

    environment: Environment
    noise: Noise | None = None
    fitness: Fitness | None = None


class CompileCost(Record):
    """What it took to make a model ready."""

    compiled_ns: PositiveInt = Field(
        description="compiling without the cache: just now, or when that was stored which has been loaded now"
    )
    loaded_ns: PositiveInt | None = Field(
        None, description="loading from the cache: reading, checking, importing; None when it was compiled"
    )
    stored_bytes: NonNegativeInt | None = Field(None, description="size of the file in the cache; None: there is none")
    from_cache: bool
    reason: str = Field("", description="why nothing is stored; empty otherwise")


class ColdCosts(Record):
    """Making one model ready in a fresh process, with and without what was compiled before."""

    without_cache: CompileCost
    with_cache: CompileCost | None = Field(None, description="None where the runtime cannot keep what it compiled")


class Measurement(Record):
    """Raw samples of one subject, with all that is needed to judge them. Either trials or a failure, never neither."""

    schema_version: Literal[2] = 2
    subject: Subject
    backend_version: str | None = None
    scenario: Literal["request"] = Field(
        "request", description="host clock, depth 1, inputs in host memory to outputs in host memory"
    )
    environment: Environment
    noise: Noise | None = Field(None, description="what else the machine did; None where nobody looked")
    fitness: Fitness | None = Field(None, description="whether the machine was fit; None where nobody looked")
    agreement: Agreement | None = None
    trials: tuple[Trial, ...] = ()
    cold: ColdCosts | None = Field(None, description="of compiling; None where it was not asked for")
    failure: str | None = Field(None, description="one line: why there are no samples")
    failure_kind: str | None = Field(
        None, description="class of the error behind it, for example 'ModelLoadError' or 'WrongAnswersError'"
    )
    doubts: tuple[str, ...] = Field((), description="what makes the numbers doubtful, in words")
    seed: int = 0
    budget_s: PositiveFloat | None = Field(None, description="seconds that were given; None in files that do not say")
    ended: str = Field("", description="why no further trial was made, in words; empty in files that do not say")
    started_utc: str = ""

    @property
    def unfit(self) -> bool:
        """Whether the machine was seen to be not fit for measuring."""
        return self.fitness is not None and self.fitness.verdict == "unfit"

    @property
    def cpu_ns_per_call(self) -> float | None:
        """CPU time of all threads of the process for one timed call; None when there are no trials."""
        n_calls = sum(len(trial.calls_ns) for trial in self.trials)
        return sum(trial.cpu_ns for trial in self.trials) / n_calls if n_calls else None

    @property
    def energy_uj_per_call(self) -> float | None:
        """Microjoules of the whole package or board for one call; None where nothing counts them."""
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
    """A number with its doubt."""

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
    """What a network costs on paper, for one example (batch 1)."""

    macs: NonNegativeInt = Field(description="multiply-accumulates of convolutions and matrix products")
    parameters: NonNegativeInt
    weight_bytes: NonNegativeInt
    activation_bytes: NonNegativeInt
    file_bytes: NonNegativeInt = Field(description="ONNX file with its external data")
    nodes: tuple[NodeCost, ...] = ()
    unknown: tuple[str, ...] = Field((), description="nodes whose MACs are not known, and why; macs is a lower bound")
    uncounted: tuple[str, ...] = Field((), description="names of those of the graph itself")
    unsized: NonNegativeInt = Field(
        0, description="outputs of nodes whose size is not known; activation_bytes is a lower bound where there are any"
    )
    from_run: bool = Field(False, description="whether what depends on data was counted in a run on the inputs")

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
    ended: str = Field("", description="why no further pair was made, in words; empty in files that do not say")
    verdict: Literal["faster", "slower", "equivalent", "inconclusive", "failed"]

    @property
    def sides(self) -> tuple[Measurement, Measurement]:
        """Baseline and candidate."""
        return self.baseline, self.candidate

    @property
    def unfit(self) -> bool:
        """Whether one of the two was measured while the machine was not fit."""
        return any(side.unfit for side in self.sides)

    @property
    def flop_ratio(self) -> float | None:
        """FLOPs of the baseline over FLOPs of the candidate: what the count promises; None where one is not known."""
        if self.baseline_cost.unknown or self.candidate_cost.unknown:
            return None
        return self.baseline_cost.macs / max(1, self.candidate_cost.macs)

    @property
    def realised(self) -> float | None:
        """Measured speed-up over FLOP ratio: 1 when it was kept; None when nothing was measured or promised."""
        promise = self.flop_ratio
        return self.speedup.value / promise if self.speedup is not None and promise else None
