"""Measure how often a comparison is wrong, and how often it finds a true change.

``python -m benchmarks.validation.error_rates`` runs the real `benchmarks.runner.compare` on simulated processes, and
for comparison what two steps of a CI job do. With ``--services`` it uses models with unusual calls instead of busy
machines, with ``--recorded`` it draws comparisons from recorded pairs.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

import numpy as np

from benchmarks.errors import BenchmarkError, SettingError
from benchmarks.records.file import load_comparison
from benchmarks.runner import compare
from benchmarks.settings import Settings
from benchmarks.stats.group_sequential import InterimAnalyses
from benchmarks.stats.sequential_test import decide
from benchmarks.subject.subject import SubjectSpec
from benchmarks.validation.naive import NAIVE_CALLS, NAIVE_DROPPED, naive_verdict
from benchmarks.validation.rates import HEAD, Rates, rates_of, row
from benchmarks.validation.real_machine import ratios_of_lines
from benchmarks.validation.simulated_machine import Service, SimulatedMachine, Weather

__all__ = [
    "BUSY",
    "QUIET",
    "SERVICES",
    "Kind",
    "main",
    "naive_rates",
    "recorded_ratios",
    "resampled_rates",
    "simulated_rates",
]

SLOWDOWNS = (0.0, 0.01, 0.03, 0.05, 0.1)
_MODEL_NS = 5e6
_NO_END_S = 1e6  # the pairs are fixed, and the clock is simulated


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of machine: the spread of its processes and calls, its weather, and the shape of its calls.

    `shape` holds further arguments of `Service`, for both models.
    """

    name: str
    luck: float = 0.004
    sigma: float = 0.01
    weather: Weather = field(default_factory=Weather)
    shape: Mapping[str, float] = field(default_factory=dict)

    def machine(self, slowdown: float, seed: int) -> SimulatedMachine:
        """Return one such machine with a 5 ms model and a candidate that is slower by `slowdown`."""
        calls = {"sigma": self.sigma, "correlation": 0.5, **self.shape}
        services = {
            "baseline": Service(median_ns=_MODEL_NS, **calls),
            "candidate": Service(median_ns=_MODEL_NS * (1 + slowdown), **calls),
        }
        return SimulatedMachine(services, seed=seed, luck=self.luck, weather=self.weather)


QUIET = Kind(name="quiet", weather=Weather(sigma=0.005))
BUSY = Kind(
    name="busy",
    sigma=0.03,
    weather=Weather(sigma=0.05, time_constant_s=2.0, bursts_per_s=0.1, burst_s=1.0, burst_factor=1.3),
)
SERVICES = (
    Kind(name="constant", sigma=0.0),
    Kind(name="lognormal", sigma=0.1, shape={"correlation": 0.0}),
    Kind(name="two modes", shape={"slow_share": 0.2}),
    Kind(name="drifting", shape={"drift_per_s": 0.02}),
    Kind(name="throttled", shape={"throttled_after_s": 1.0}),
    Kind(name="AR(1)", sigma=0.03, shape={"correlation": 0.9}),
)
"""Models whose calls are each unusual in one way, in calm weather."""


def simulated_rates(
    kind: Kind, slowdown: float, *, runs: int, seed: int = 0, margin: float = 0.03, looks: InterimAnalyses | None = None
) -> Rates:
    """Run the real comparison on simulated machines, decided sequentially.

    Parameters
    ----------
    kind : Kind
        Kind of machine.
    slowdown : float
        True slow-down, as a share.
    runs : int
        Number of comparisons, each on its own machine.
    seed : int, default=0
        Seed of all comparisons.
    margin : float, default=0.03
        Smallest effect that counts, as a share.
    looks : InterimAnalyses, optional
        Defaults to `InterimAnalyses()`.
    """
    looks = looks or InterimAnalyses()
    decisions, seconds = [], []
    ratios: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        candidate, baseline = _specs(Path(folder))
        for run_seed in _seeds(seed, runs):
            machine = kind.machine(slowdown, run_seed)
            settings = Settings(trials=looks.max_pairs, margin=margin, seed=run_seed, budget_s=_NO_END_S)
            done = compare(candidate, baseline, settings=settings, launch=machine.launch, machine=machine).log_ratios
            decisions.append(decide(done, margin, looks))
            ratios += done
            seconds.append(machine.now_ns / 1e9 / len(done))
    return rates_of(
        f"pairs, {100 * margin:g} %",
        kind.name,
        slowdown,
        margin,
        decisions=decisions,
        ratios=ratios,
        seconds_per_pair=seconds,
    )


def naive_rates(kind: Kind, slowdown: float, *, runs: int, seed: int = 0, margin: float = 0.03) -> Rates:
    """Run one process after the other on simulated machines, as in `naive`; see `simulated_rates`."""
    verdicts: Counter[str] = Counter()
    seconds = []
    for run_seed in _seeds(seed, runs):
        machine = kind.machine(slowdown, run_seed)
        verdicts[naive_verdict(_one_step(machine, "baseline"), _one_step(machine, "candidate"))] += 1
        seconds.append(machine.now_ns / 1e9)
    return Rates(
        procedure="naive, 5 %",
        where=kind.name,
        slowdown=slowdown,
        margin=margin,
        verdicts=dict(verdicts),
        seconds=fmean(seconds),
    )


def resampled_rates(
    ratios: Sequence[float],
    slowdown: float,
    *,
    runs: int,
    seed: int = 0,
    margin: float = 0.03,
    looks: InterimAnalyses | None = None,
    where: str = "recorded",
) -> Rates:
    """Draw comparisons from recorded pairs, with replacement, and make the candidate slower.

    Parameters
    ----------
    ratios : sequence of float
        log(baseline / candidate) of pairs of a model with itself.
    slowdown : float
        Slow-down added to them, as a share.
    runs : int
        Number of comparisons drawn.
    seed, margin, looks
        See `simulated_rates`.
    where : str, default="recorded"
        Name in the table.

    Raises
    ------
    SettingError
        There are no pairs.
    """
    if not ratios:
        raise SettingError("there are no recorded pairs to draw from")
    looks = looks or InterimAnalyses()
    drawn = np.random.default_rng(seed).choice(np.asarray(ratios, float), (runs, looks.max_pairs)) - math.log1p(
        slowdown
    )
    decisions = [decide(pairs, margin, looks) for pairs in drawn.tolist()]
    return rates_of(
        f"pairs, {100 * margin:g} %", where, slowdown, margin, decisions=decisions, ratios=ratios, seconds_per_pair=()
    )


def recorded_ratios(paths: Iterable[Path]) -> list[float]:
    """Read the pairs of recorded comparisons: files of one comparison each, or of lines (``.jsonl``).

    Raises
    ------
    RecordError
        A file is missing or broken.
    SettingError
        A comparison failed, so it has no pairs.
    """
    ratios: list[float] = []
    for path in paths:
        if path.suffix == ".jsonl":
            ratios += ratios_of_lines(path)
            continue
        comparison = load_comparison(path)
        if not comparison.log_ratios:
            raise SettingError(f"{path} holds a comparison that failed: it has no pairs")
        ratios += comparison.log_ratios
    return ratios


def main(arguments: Sequence[str] | None = None, write: Callable[[str], object] = sys.stdout.write) -> int:
    """Print the table.

    Parameters
    ----------
    arguments : sequence of str, optional
        Defaults to the command line.
    write : callable
        Receives each line.

    Returns
    -------
    int
        Exit status: 0, or 2 if a file cannot be used.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.validation.error_rates", description=__doc__)
    parser.add_argument("--runs", type=int, default=1000, help="comparisons in each row (default: 1000)")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same table (default: 0)")
    parser.add_argument("--margin", type=float, default=0.03, help="smallest effect that counts (default: 0.03)")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--services", action="store_true", help="models with odd calls instead of busy machines")
    instead.add_argument(
        "--recorded", type=Path, nargs="+", metavar="FILE", help="comparisons of a model with itself to draw from"
    )
    asked = parser.parse_args(arguments)
    if asked.runs < 1:
        parser.error(f"--runs must be at least 1, got {asked.runs}")
    options = {"runs": asked.runs, "seed": asked.seed, "margin": asked.margin}
    try:
        recorded = recorded_ratios(asked.recorded or ())
        write(HEAD)
        for slowdown in SLOWDOWNS:
            if asked.recorded:
                write(row(resampled_rates(recorded, slowdown, **options)))
                continue
            for kind in SERVICES if asked.services else (QUIET, BUSY):
                write(row(naive_rates(kind, slowdown, **options)))
                write(row(simulated_rates(kind, slowdown, **options)))
    except BenchmarkError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


def _specs(folder: Path) -> tuple[SubjectSpec, SubjectSpec]:
    """Write a model that is never run; return (candidate, baseline)."""
    import onnx
    from onnx import TensorProto, helper

    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "graph", values[:1], values[1:])
    path = folder / "identity.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    candidate, baseline = (SubjectSpec(model=path, label=label, backend="null") for label in ("candidate", "baseline"))
    return candidate, baseline


def _one_step(machine: SimulatedMachine, label: str) -> tuple[int, ...]:
    """Do what one step of a CI job does: start a process and make a few calls."""
    process = machine.launch(SubjectSpec(model=Path("none.onnx"), label=label, backend="null"), timeout_s=1.0)
    process.load({})
    return process.block(NAIVE_CALLS, NAIVE_DROPPED)


def _seeds(seed: int, runs: int) -> list[int]:
    return [int(one) for one in np.random.default_rng(seed).integers(2**31, size=runs)]


if __name__ == "__main__":
    sys.exit(main())
