"""Journal of a run: each trial is appended to it as it ends, so that an interrupted run can be recovered.

One entry is one line of JSON with a checksum as its last member, written by a single call and forced to disk before the
next trial starts. A kill at any moment leaves whole lines and at most one torn line at the end, which is ignored and
reported. The first line identifies the file. The journal is deleted once the final record is saved.
"""

from __future__ import annotations

import fcntl
import json
import os
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from backends.reading.files import require_regular
from benchmarks.arm import Arm
from benchmarks.comparison import compared
from benchmarks.errors import NotComparableError, RecordError
from benchmarks.records.base import Record
from benchmarks.records.disk import sync_entry
from benchmarks.records.measurement import (
    Agreement,
    Comparison,
    Conditions,
    Cost,
    Environment,
    Measurement,
    Subject,
    Trial,
)
from benchmarks.settings import NOT_A_VERDICT, Settings

__all__ = ["INTERRUPTED", "Begun", "Contents", "Journal", "journal_path", "recover"]

INTERRUPTED = "Interrupted"
"""``failure_kind`` of an arm without a completed trial."""

_FORMAT = "prune-deploy journal"
_VERSION = 2
_READ = (1, 2)  # 2 adds the conditions of the machine
_SEAL = ',"crc32":"{:08x}"}}\n'
_SEAL_BYTES = len(_SEAL.format(0))


class Begun(Record):
    """What is known about one arm before its first trial."""

    subject: Subject
    environment: Environment
    cost: Cost | None = None
    margin: float | None = None
    seed: int = 0
    started_utc: str = ""
    fast: bool = False


class _Of(Record):
    side: str


class _Begun(_Of):
    entry: Literal["begun"]
    data: Begun


class _Checked(_Of):
    entry: Literal["checked"]
    agreement: Agreement | None
    backend_version: str | None


class _Trial(_Of):
    entry: Literal["trial"]
    data: Trial


class _Failure(_Of):
    entry: Literal["failure"]
    reason: str
    kind: str


class _Conditions(Record):
    entry: Literal["conditions"]
    data: Conditions


class _Head(Record):
    journal: Literal["prune-deploy journal"]
    version: int


_Entry = Annotated[_Begun | _Checked | _Trial | _Failure | _Conditions, Field(discriminator="entry")]
_ENTRIES: TypeAdapter[_Entry] = TypeAdapter(_Entry)


@dataclass(slots=True)
class Contents:
    """Contents of a journal.

    Parameters
    ----------
    begun : dict of str to Begun
        What was known about each arm before its first trial, in the order in which they began.
    arms : dict of str to Arm
        Results of each arm.
    conditions : Conditions or None
        State of the machine, as last judged; None if the run ended before that, or the journal is of version 1.
    torn : str
        Note on an incomplete last line that is ignored; empty if there is none.
    """

    begun: dict[str, Begun] = field(default_factory=dict)
    arms: dict[str, Arm] = field(default_factory=dict)
    conditions: Conditions | None = None
    torn: str = ""

    def measurement(self, name: str) -> Measurement:
        """Return the record of one arm as measured so far; like a run's own, it has trials or a failure."""
        begun, arm = self.begun[name], self.arms[name]
        if arm.failure is None and not arm.trials:
            arm.failure, arm.failure_kind = "the run was interrupted before its first trial ended", INTERRUPTED
        caveats = [f"the run was interrupted after {len(arm.trials)} trials"]
        if begun.fast:
            caveats.append(NOT_A_VERDICT)
        if self.conditions is None:
            caveats.append("whether the machine was fit for measuring is not known: the journal does not say")
        return arm.measurement(
            self.conditions or Conditions(environment=begun.environment),
            seed=begun.seed,
            started_utc=begun.started_utc,
            caveats=caveats,
        )


class Journal:
    """Writer of the journal of a running measurement.

    Each method returns when its entry is on disk. An older journal at the same path is moved to the first free
    ``<name>.1``, ``<name>.2``, ..., so that nothing is lost.

    Parameters
    ----------
    path : Path
        File to write; see `journal_path`.

    Raises
    ------
    RecordError
        The file cannot be written, or another live run is writing to it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            _set_aside(path)
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o644)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            sync_entry(path.parent)
        except OSError as error:
            raise RecordError(f"cannot write the journal {path}: {error.strerror or error}") from error
        self._append({"journal": _FORMAT, "version": _VERSION})

    def begin(self, arm: str, begun: Begun) -> None:
        """Write what is known about an arm before its first trial; `arm` is its key, for example ``"baseline"``."""
        self._append_record("begun", arm, begun)

    def checked(self, arm: str, agreement: Agreement | None, backend_version: str | None) -> None:
        """Write the check of a compiled model's answers and its backend's version."""
        known = agreement.model_dump(mode="json") if agreement is not None else None
        self._append({"entry": "checked", "side": arm, "agreement": known, "backend_version": backend_version})

    def trial(self, arm: str, trial: Trial) -> None:
        """Write a completed trial."""
        self._append_record("trial", arm, trial)

    def failure(self, arm: str, reason: str, kind: str) -> None:
        """Write why an arm has no samples."""
        self._append({"entry": "failure", "side": arm, "reason": reason, "kind": kind})

    def conditions(self, conditions: Conditions) -> None:
        """Write the state of the machine so far: the last entry counts."""
        self._append({"entry": "conditions", "data": conditions.model_dump(mode="json")})

    def finish(self) -> None:
        """Delete the journal: the final record is saved. A second call does nothing."""
        if self._descriptor >= 0:
            ours, there = os.fstat(self._descriptor), self.path.stat() if self.path.exists() else None
            if there is not None and (ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino):
                self.path.unlink()
        self.close()

    def close(self) -> None:
        """Close the journal and keep its file; a second call does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @staticmethod
    def read(path: Path) -> Contents:
        """Read the journal of a finished or a running measurement.

        Raises
        ------
        RecordError
            The file is missing, is not a journal, or a line other than the last is damaged.
        """
        return _read(path)

    def _append_record(self, entry: str, arm: str, record: Record) -> None:
        self._append({"entry": entry, "side": arm, "data": record.model_dump(mode="json")})

    def _append(self, entry: dict[str, Any]) -> None:
        body = json.dumps(entry, separators=(",", ":")).encode()[:-1]
        line = memoryview(body + _SEAL.format(zlib.crc32(body)).encode())
        try:
            while line:
                line = line[os.write(self._descriptor, line) :]
            os.fsync(self._descriptor)
        except OSError as error:
            raise RecordError(f"cannot write the journal {self.path}: {error.strerror or error}") from error


def journal_path(target: Path) -> Path:
    """Return the path of the journal of a run whose final record goes to `target`."""
    return target.with_name(f"{target.name}.journal")


def recover(path: Path) -> tuple[Measurement | Comparison, str]:
    """Rebuild the result of a run from its journal, as if only the completed trials had been requested.

    With two arms, the first is the baseline. Pairs with only one completed trial are left out.

    Parameters
    ----------
    path : Path
        A journal.

    Returns
    -------
    (Measurement or Comparison, str)
        The result, and a note on an incomplete line, empty if there is none. A comparison of fewer than 6 pairs is
        inconclusive; one with an arm without trials has failed.

    Raises
    ------
    RecordError
        See `Journal.read`; or the journal has no arm, or two arms without what a comparison needs.
    """
    contents = _read(path)
    try:
        return _measured(contents), contents.torn
    except NotComparableError as error:
        raise RecordError(f"{path}: {error}") from error
    except (ArithmeticError, ValueError) as error:
        raise RecordError(f"{path} is damaged: its entries do not fit together") from error


def _measured(contents: Contents) -> Measurement | Comparison:
    names = list(contents.arms)
    if len(names) == 1:
        return contents.measurement(names[0])
    if len(names) != 2:
        raise NotComparableError("nothing to recover: the run was interrupted before it knew its models")
    baseline, candidate = contents.arms.values()
    of_baseline, of_candidate = contents.begun.values()
    if of_baseline.cost is None or of_candidate.cost is None or of_candidate.margin is None:
        raise NotComparableError("two models, but not their costs: it is the journal of two measurements")
    if baseline.failure is None and candidate.failure is None:
        n_pairs = min(len(baseline.trials), len(candidate.trials))
        del baseline.trials[n_pairs:], candidate.trials[n_pairs:]
    # The interruption did not depend on the ratios, so their number counts as fixed in advance.
    settings = Settings(trials=max(1, len(candidate.trials)), margin=of_candidate.margin, fast=of_candidate.fast)
    first, second = map(contents.measurement, names)
    return compared(first, second, (of_baseline.cost, of_candidate.cost), settings)


def _read(path: Path) -> Contents:
    try:
        require_regular(path)
        *lines, rest = path.read_bytes().split(b"\n")
    except OSError as error:
        raise RecordError(f"{path}: {error.strerror or error}") from error
    entries: list[bytes] = []
    torn = f"{len(rest)} bytes of a line that was cut off are ignored" if rest else ""
    for number, line in enumerate(lines, 1):
        entry = _opened(line)
        if entry is not None:
            entries.append(entry)
        elif number == len(lines) and not rest and entries:
            torn = "a damaged last line is ignored"
        else:
            raise RecordError(f"{path} is not a journal, or is damaged: line {number} does not fit its checksum")
    try:
        head = _Head.model_validate_json(entries[0])
    except (IndexError, ValidationError) as error:
        raise RecordError(f"{path} is not a journal of a measurement") from error
    if head.version not in _READ:
        raise RecordError(f"{path} is a journal of version {head.version}; this program reads 1 to {_VERSION}")
    contents = Contents(torn=torn)
    try:
        for entry in entries[1:]:
            _take(contents, _ENTRIES.validate_json(entry))
    except (KeyError, ValidationError) as error:  # a valid checksum proves nothing
        raise RecordError(f"{path} is damaged: an entry is not what it says") from error
    return contents


def _opened(line: bytes) -> bytes | None:
    """Return the JSON of an intact line, None for a damaged one."""
    body = line[: 1 - _SEAL_BYTES]
    return body + b"}" if line[len(body) :] + b"\n" == _SEAL.format(zlib.crc32(body)).encode() else None


def _take(contents: Contents, entry: _Entry) -> None:
    match entry:
        case _Conditions():
            contents.conditions = entry.data
        case _Begun():
            contents.begun[entry.side] = entry.data
            contents.arms[entry.side] = Arm(subject=entry.data.subject)
        case _Checked():
            arm = contents.arms[entry.side]
            arm.backend_version = entry.backend_version
            arm.agreement = entry.agreement or arm.agreement
        case _Trial():
            contents.arms[entry.side].trials.append(entry.data)
        case _Failure():
            arm = contents.arms[entry.side]
            arm.failure, arm.failure_kind = entry.reason, entry.kind


def _set_aside(path: Path) -> None:
    """Rename an older journal, unless its run is still alive."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        number = 1
        while path.with_name(f"{path.name}.{number}").exists():
            number += 1
        path.rename(path.with_name(f"{path.name}.{number}"))
    except BlockingIOError as error:
        raise RecordError(f"another run is writing the journal {path}; wait for it or choose another place") from error
    finally:
        os.close(descriptor)
