"""The answer as plain data: terminal, page and notebook show the same numbers and the same words.

Factors are times of the baseline over times of the candidate; durations are in nanoseconds, sizes in bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from benchmarks.records.measurement import Interval
from deploy.sources.metric import Metric

__all__ = [
    "AllowedDrop",
    "Answer",
    "AskedSpeed",
    "BackendAnswer",
    "Checked",
    "Doubt",
    "Ending",
    "Grade",
    "NoiseGrade",
    "ScoreChange",
    "ScoreVerdict",
    "Sizes",
    "Timed",
    "Verdict",
]

Verdict = Literal["faster", "slower", "equivalent", "inconclusive", "measured", "wrong", "failed", "skipped"]
"""``measured``: a single model, nothing to compare. ``wrong``: its answers are wrong, so it was not timed."""

ScoreVerdict = Literal["ok", "fell", "fell to chance", "at chance", ""]
"""``ok``: no drop that this many examples can show. Empty: unknown."""

Grade = Literal["LOW", "MODERATE", "HIGH"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """How one model ran on one backend.

    Parameters
    ----------
    p50_ns : float
        Median latency of one request.
    p90_ns, p99_ns : float or None
        None if the sample is too small.
    per_second : float
        Examples per second, one request at a time.
    peak_bytes : int
        Resident memory of the process.
    """

    p50_ns: float
    p90_ns: float | None
    p99_ns: float | None
    per_second: float
    peak_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendAnswer:
    """Result on one backend: one row.

    Parameters
    ----------
    place : str
        The backend, with its options if it was measured with several: ``"ort, 2 threads"``.
    verdict : str
        One of `Verdict`.
    baseline, candidate : Timed or None
        None if it was not timed; a single model is the candidate.
    speedup : Interval or None
        None if nothing was compared.
    promised : float or None
        FLOPs of the baseline over those of the candidate; None if unknown.
    realised : float or None
        ``speedup / promised``; also None if FLOPs did not fall or accuracy is lost.
    margin : float or None
        Smallest effect that counts, as a share; None for a single model.
    reason : str
        Why there is no verdict or no number; otherwise empty.
    hint : str
        What to do about it; may be empty.
    """

    place: str
    verdict: Verdict
    baseline: Timed | None = None
    candidate: Timed | None = None
    speedup: Interval | None = None
    promised: float | None = None
    realised: float | None = None
    margin: float | None = None
    reason: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreChange:
    """How good the network is, before and after.

    Parameters
    ----------
    metric : str
        ``"accuracy"`` in [0, 1], or ``"psnr"`` in dB.
    before, after : float or None
        Score on the test examples in torch. `before` is None for a single model, or if unknown.
    n_examples : int or None
        Test examples behind `after`.
    n_classes : int or None
        None: unknown, or there are none. Chance is ``1 / n_classes``.
    verdict : str
        One of `ScoreVerdict`.
    on_backends : tuple of (str, float)
        Backend and score of each compiled model whose score differs from `after` by more than rounding.
    """

    metric: Metric
    before: float | None
    after: float | None
    n_examples: int | None
    n_classes: int | None
    verdict: ScoreVerdict
    on_backends: tuple[tuple[str, float], ...] = ()

    @property
    def change(self) -> float | None:
        """``after - before``; None if either is unknown."""
        return None if self.before is None or self.after is None else self.after - self.before

    @property
    def lost(self) -> bool:
        """Whether the score fell to that of guessing."""
        return self.verdict in ("fell to chance", "at chance")


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedSpeed:
    """Speed-up requested when the network was pruned, and the one achieved.

    Parameters
    ----------
    backend : str
        Backend of the requested speed-up.
    threads : int
        Number of threads.
    asked, got : float
        Factors; `got` was measured during pruning, alternating with the dense network.
    met : bool
        Whether `got` reaches `asked`, within the tolerance.
    """

    backend: str
    threads: int
    asked: float
    got: float
    met: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AllowedDrop:
    """Allowed drop on the validation examples, and the outcome of the targets tried for it.

    Parameters
    ----------
    metric : str
        ``"accuracy"``: numbers are points; ``"psnr"``: dB.
    allowed, lost : float
        `lost` is the drop of the network that was kept.
    kept : str
        The target of that network, in words.
    others : tuple of (str, float or None)
        The other targets tried, and the drops of their networks; None: out of reach.
    reached : bool
        Whether no more was lost than allowed, and the target is the requested one or beyond.
    """

    metric: Metric
    allowed: float
    lost: float
    kept: str
    others: tuple[tuple[str, float | None], ...]
    reached: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """Whether the compiled models match their references; checked before anything was timed.

    Parameters
    ----------
    right : tuple of str
        Places where every model gave right answers.
    wrong : tuple of str
        ``"pruned on torch"``: where one was wrong.
    unchecked : tuple of str
        Places where it was not checked, or could not be.
    """

    right: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()
    unchecked: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Bytes before and after.

    Parameters
    ----------
    before : int or None
        None for a single model.
    after : int
        Of the candidate.
    """

    before: int | None
    after: int

    @property
    def ratio(self) -> float | None:
        """``before / after``; None without both."""
        return self.before / self.after if self.before is not None and self.after else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """One reason to distrust the numbers, stated once however often it was seen.

    Parameters
    ----------
    words : str
        What was seen; figures that differ between places are ranges: ``"4 to 12 %"``.
    where : tuple of str
        Affected measurements: ``"dense on ort"``.
    noise : bool
        Whether it concerns the machine's noise or how much was measured.
    """

    words: str
    where: tuple[str, ...]
    noise: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseGrade:
    """How noisy the machine was, in one word.

    Parameters
    ----------
    grade : str or None
        HIGH: unfit for measuring, or processes of the same model differ by more than 10 % each way. MODERATE: there
        are signs of noise. LOW: none. None: not checked.
    signs : int
        Number of doubts about noise.
    spread : float or None
        Half the range of the processes' medians of one model, as a share, at worst; None without two processes.
    unfit : bool
        Whether the machine was unfit for measuring.
    """

    grade: Grade | None
    signs: int
    spread: float | None
    unfit: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """The exit code in words.

    Parameters
    ----------
    code : int
        See `deploy.exit_codes`.
    sentence : str
        What it means for this measurement, without a full stop.
    remedy : str
        What to do about it; empty if nothing needs to be done.
    """

    code: int
    sentence: str
    remedy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a reader wants to know first about one results file.

    Parameters
    ----------
    subject : str
        ``"pruned.onnx against dense.onnx"``, or one model.
    machine : str
        Processor, threads and precision on one line.
    created_utc : str
        When it was measured.
    backends : tuple of BackendAnswer
        One row per backend; unusable ones come last.
    scores : ScoreChange or None
        None if no score is known.
    asked : tuple of AskedSpeed
        Requested speed-ups; none for most networks.
    drop : AllowedDrop or None
        None if no drop was explicitly allowed.
    checked : Checked
        Whether the answers were right.
    size : Sizes
        ONNX files.
    memory : Sizes or None
        Peak memory on the first backend with both models; None if not measured.
    memory_place : str
        That backend.
    noise : NoiseGrade
        Grade of the noise.
    doubts : tuple of Doubt
        Doubts about noise first.
    notes : tuple of str
        Further remarks for the reader.
    ending : Ending
        The exit code in words.
    explain : str
        Command that explains a speed-up below the promised one; empty if it is not, or the files' paths are unknown.
    short_of : float
        The promised speed-up that `explain` is about; 0 if it is empty.
    """

    subject: str
    machine: str
    created_utc: str
    backends: tuple[BackendAnswer, ...]
    scores: ScoreChange | None
    asked: tuple[AskedSpeed, ...]
    drop: AllowedDrop | None
    checked: Checked
    size: Sizes
    memory: Sizes | None
    memory_place: str
    noise: NoiseGrade
    doubts: tuple[Doubt, ...]
    notes: tuple[str, ...]
    ending: Ending
    explain: str = ""
    short_of: float = 0.0

    @property
    def is_pair(self) -> bool:
        """Whether two models were compared."""
        return self.size.before is not None
