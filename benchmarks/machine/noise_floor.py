"""Noise floor of a machine: the result of comparing a model with itself, stored for later comparisons."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Literal, TypeVar

import numpy as np
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, ValidationError

from benchmarks.errors import RecordError, SettingError
from benchmarks.machine.probe import Calibration
from benchmarks.machine.state import STATE_VARIABLE, state_folder
from benchmarks.records.base import Record
from benchmarks.records.disk import read_errors, write_atomically
from benchmarks.records.measurement import Environment
from benchmarks.stats.group_sequential import InterimAnalyses
from benchmarks.stats.sequential_test import decide
from benchmarks.stats.summary import robust_deviation

__all__ = [
    "NoiseFloor",
    "best_probe",
    "fingerprint",
    "hardware_fingerprint",
    "keep_best_probe",
    "load",
    "noise_floor",
    "store",
]

Kept = TypeVar("Kept", bound=Record)

_POWER = 0.95
_MIN_PAIRS = 8


class NoiseFloor(Record):
    """Noise floor of a machine, from comparing a model with itself."""

    schema_version: Literal[1] = 1
    fingerprint: str = Field(pattern=r"^[0-9a-f]{16}$", description="of the machine; see `fingerprint`")
    backend: str = Field(pattern=r"^\w[\w.+-]*$")
    model_latency_ns: PositiveInt = Field(description="median latency of the model that was compared with itself")
    started_utc: str
    n_pairs: PositiveInt
    centre: float = Field(description="median log ratio of the pairs; 0 up to chance where neither side is favoured")
    spread: NonNegativeFloat = Field(description="of one pair's log ratio: 1.4826 x median absolute deviation")
    margin: PositiveFloat = Field(description="margin at which `false_alarm_rate` was found")
    looks: InterimAnalyses
    false_alarm_rate: float = Field(
        ge=0, le=1, description="share of comparisons, re-sampled from the pairs, that say faster or slower"
    )
    smallest_margin: float | None = Field(
        description="smallest margin at which 95 % of the re-sampled comparisons say equivalent within the pairs that "
        "the looks allow; None where none below 1 does"
    )

    def can_decide(self, margin: float) -> bool:
        """Return whether a comparison with this margin will usually reach a verdict on this machine."""
        return self.smallest_margin is not None and margin >= self.smallest_margin


def noise_floor(
    ratios: Sequence[float],
    *,
    fingerprint: str,
    backend: str,
    model_latency_ns: int,
    started_utc: str,
    margin: float = 0.03,
    looks: InterimAnalyses | None = None,
    n_resamples: int = 2000,
    seed: int = 0,
) -> NoiseFloor:
    """Compute the noise floor from pairs in which a model was compared with itself.

    The smallest decidable margin is the smallest one at which the interval of one of the looks is within the margin in
    95 % of the comparisons re-sampled from the pairs. For a true change as large as that margin, the same intervals
    exclude "no difference": such a change is detected with 95 %. Its *median* also reaches the margin, as *faster* and
    *slower* require, only half of the time; changes of twice the margin and more are detected nearly always.

    Parameters
    ----------
    ratios : sequence of float
        One log ratio per pair, at least 8; 20 and more give a steadier answer.
    fingerprint, backend, model_latency_ns, started_utc
        See `NoiseFloor`.
    margin : float, default=0.03
        Margin at which the false-alarm rate is computed.
    looks : InterimAnalyses, optional
        Looks of the comparisons to be made: how many pairs they may use. Defaults to those of `InterimAnalyses`.
    n_resamples : int, default=2000
        Number of comparisons drawn.
    seed : int, default=0
        Seed of the re-sampling.

    Raises
    ------
    SettingError
        There are fewer than 8 pairs, a ratio is not finite, or the margin is invalid.
    """
    if len(ratios) < _MIN_PAIRS:
        raise SettingError(f"a noise floor wants at least {_MIN_PAIRS} pairs, got {len(ratios)}")
    looks = looks or InterimAnalyses()
    drawn = np.random.default_rng(seed).choice(np.asarray(ratios, float), (n_resamples, looks.max_pairs)).tolist()
    alarms = sum(decide(pairs, margin, looks).verdict in {"faster", "slower"} for pairs in drawn)
    needed = sorted(_needed_delta(pairs, looks) for pairs in drawn)
    # The rule requires strictly less than delta, so take a value just above it.
    smallest = math.expm1(needed[math.ceil(_POWER * n_resamples) - 1]) * (1 + 1e-9) + 1e-12
    return NoiseFloor(
        fingerprint=fingerprint,
        backend=backend,
        model_latency_ns=model_latency_ns,
        started_utc=started_utc,
        n_pairs=len(ratios),
        centre=median(ratios),
        spread=robust_deviation(ratios),
        margin=margin,
        looks=looks,
        false_alarm_rate=alarms / n_resamples,
        smallest_margin=smallest if smallest < 1 else None,
    )


def fingerprint(environment: Environment) -> str:
    """Return a short hash of what does not change on a machine from run to run, package versions included.

    The GPU and its driver count where they are known, as for what was measured on a GPU.
    """
    gpu = {} if environment.gpu is None else {"gpu": environment.gpu, "driver": environment.driver}
    return _hash(environment, system=environment.system, packages=environment.packages, **gpu)


def hardware_fingerprint(environment: Environment) -> str:
    """Return a short hash of the hardware and the family of the operating system.

    Kernel and package versions are left out: they change every few weeks, and a history should show whether a new
    runtime is slower. `fingerprint` includes them.
    """
    family = environment.system.replace("-", " ").partition(" ")[0]
    return _hash(environment, system=family, gpu=environment.gpu)


def _hash(environment: Environment, **more: object) -> str:
    stable = {
        "cpu": environment.cpu,
        "cpu_cores": environment.cpu_cores,
        "memory": round(environment.memory_bytes / 2**28),  # a new kernel may reserve a few megabytes more or less
        **more,
    }
    return hashlib.sha256(json.dumps(stable, sort_keys=True).encode()).hexdigest()[:16]


def store(floor: NoiseFloor, folder: Path | None = None) -> Path:
    """Store a noise floor, replacing atomically an older one of the same machine and backend.

    Parameters
    ----------
    floor : NoiseFloor
        The noise floor.
    folder : Path, optional
        Defaults to `state_folder`; created if missing.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    RecordError
        It cannot be written.
    """
    path = _path(folder, floor.fingerprint, floor.backend)
    _write(path, floor.model_dump_json() + "\n")
    return path


def load(fingerprint: str, backend: str, folder: Path | None = None) -> NoiseFloor | None:
    """Read the noise floor of a machine and a backend; None if they were never calibrated.

    Parameters
    ----------
    fingerprint : str
        See `fingerprint`.
    backend : str
        Name of the backend.
    folder : Path, optional
        Defaults to `state_folder`.

    Raises
    ------
    RecordError
        The file is broken, cannot be read, or is of an unknown version.
    """
    return _read(_path(folder, fingerprint, backend), NoiseFloor, "a noise floor; remove it and calibrate again")


def best_probe(fingerprint: str, folder: Path | None = None) -> Calibration | None:
    """Read the fastest probe ever seen on a machine; None if nothing is stored.

    Parameters
    ----------
    fingerprint : str
        See `fingerprint`.
    folder : Path, optional
        Defaults to `state_folder`.

    Raises
    ------
    RecordError
        The file is broken or cannot be read.
    """
    return _read(_probe_path(folder, fingerprint), Calibration, "a calibration of the probe; remove it")


def keep_best_probe(best: Calibration, fingerprint: str, folder: Path | None = None) -> None:
    """Store the fastest probe ever seen on a machine.

    Raises
    ------
    RecordError
        It cannot be written.
    """
    _write(_probe_path(folder, fingerprint), best.model_dump_json() + "\n")


def _probe_path(folder: Path | None, fingerprint: str) -> Path:
    return (folder or state_folder()) / "probe" / f"{fingerprint}.json"


def _path(folder: Path | None, fingerprint: str, backend: str) -> Path:
    return (folder or state_folder()) / "noise" / f"{fingerprint}-{backend}.json"


def _read(path: Path, kind: type[Kept], what: str) -> Kept | None:
    with read_errors(path, RecordError):
        try:
            return kind.model_validate_json(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (ValidationError, UnicodeDecodeError) as error:
            raise RecordError(f"{path} is not {what}") from error


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda part: part.write_text(text, encoding="utf-8"))
    except OSError as error:
        raise RecordError(
            f"cannot store anything about this machine in {path.parent}: {error.strerror or error}; "
            f"set {STATE_VARIABLE} to a folder"
        ) from error


def _needed_delta(ratios: Sequence[float], looks: InterimAnalyses) -> float:
    """Return the smallest delta whose range contains the interval of one of the looks."""
    needed = math.inf
    for n, order in looks.schedule:
        ordered = sorted(ratios[:n])
        needed = min(needed, max(abs(ordered[order - 1]), abs(ordered[n - order])))
    return needed
