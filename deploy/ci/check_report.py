"""`CheckReport`: the result of ``deploy check``, one row per limit, as one versioned JSON file.

It includes the raw samples behind the rows, so a page, a summary or a history is made from the file alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat

from benchmarks.records.base import Record
from benchmarks.records.measurement import Environment
from deploy import exit_codes
from deploy.results.document import Document, legal, read_document, require_version
from deploy.results.results import Results, results_of_document

__all__ = ["SCHEMA_VERSION", "CheckReport", "CheckRow", "Commit", "Outcome", "RowVerdict", "load_check"]

SCHEMA_VERSION = 1

RowVerdict = Literal["kept", "broken", "inconclusive", "unfit", "failed"]
"""``"failed"``: it could not be judged, for example because the model does not load or its baseline is missing."""
Outcome = Literal["passed", "warning", "failure"]
"""How the job treats a verdict, by the policy of the check file."""

_GRAVEST_FIRST: tuple[tuple[RowVerdict, int], ...] = (
    ("failed", exit_codes.USAGE),
    ("broken", exit_codes.REGRESSION),
    ("unfit", exit_codes.UNFIT),
    ("inconclusive", exit_codes.INCONCLUSIVE),
)
_ANSWERS = "answers"


class CheckRow(Record):
    """One limit of one model, on one backend if the limit depends on it."""

    model: str = Field(description="name of the model in the check file")
    file: str = Field(description="the model's file as the check file names it, for annotations")
    backend: str | None = Field(None, description="None: the limit does not depend on a backend")
    place: str = Field("", description="backend, threads and batch in readable form; empty without a backend")
    limit: str = Field(description="key of the limit in the check file: 'slower', 'p99_ms', 'answers'")
    statement: str = Field(description="the limit in words: 'at most 3 % slower than the baseline'")
    allowed: float | None = Field(None, description="the limit as a number, in `unit`; None where it has none")
    observed: float | None = Field(None, description="what was measured, in `unit`; None: nothing was")
    low: float | None = Field(
        None, description="lower end of its confidence interval; None: counted exactly, or unknown"
    )
    high: float | None = Field(None, description="upper end")
    unit: str = Field("", description="'ms', '1/s', 'bytes', 'MACs', 'parameters', 'share'; empty without a number")
    verdict: RowVerdict
    outcome: Outcome = Field(description="after applying the policy for inconclusive or unfit results")
    reason: str = Field(description="one sentence: what was observed, with its figures")
    remedy: str = Field("", description="what to do about it; empty if there is nothing to do")

    @property
    def where(self) -> str:
        """Model and where it ran: ``"classifier on ort, 1 thread"``."""
        return f"{self.model} on {self.place}" if self.place else self.model

    @property
    def line(self) -> str:
        """The row as one line: ``"classifier on ort, 1 thread: 5.2 % slower (4.9 to 5.6 %); limit: ..."``."""
        return f"{self.where}: {self.reason}; limit: {self.statement}"


class Commit(Record):
    """The state of the repository that was checked."""

    sha: str = Field(pattern="^[0-9a-f]{40}([0-9a-f]{24})?$")
    branch: str | None = Field(None, description="None: no branch is checked out")
    committed_utc: str = Field(description="time of the commit")
    dirty: bool = Field(description="whether tracked files differ from the commit")


class CheckReport(Document):
    """``check.json``: limits, verdicts and the measurements behind them."""

    schema_version: Literal[1] = 1
    created_utc: str
    tool_version: str
    title: str = Field(min_length=1)
    check_file: str = Field(description="path of the check file as it was given")
    commit: Commit | None = Field(None, description="None: the models are not in a git repository")
    environment: Environment
    machine: str = Field(description="fingerprint of the machine; histories of different machines are never joined")
    budget_s: PositiveFloat = Field(description="seconds given to the job")
    took_s: NonNegativeFloat
    retried: bool = Field(False, description="whether undecided rows were given more time, by the policy 'retry'")
    rows: tuple[CheckRow, ...] = Field(min_length=1)
    results: dict[str, Results] = Field(
        default_factory=dict, description="by name of the model: what was measured, raw samples included"
    )

    @property
    def exit_code(self) -> int:
        """Exit code of the most severe failure; 0 if every row passed or is a warning."""
        failures = [row for row in self.rows if row.outcome == "failure"]
        if any(row.limit == _ANSWERS and row.verdict == "broken" for row in failures):
            return exit_codes.WRONG_ANSWERS
        verdicts = {row.verdict for row in failures}
        return next((code for verdict, code in _GRAVEST_FIRST if verdict in verdicts), exit_codes.OK)

    def with_outcome(self, outcome: Outcome) -> tuple[CheckRow, ...]:
        """Return the rows with this outcome, in the order of the check file."""
        return tuple(row for row in self.rows if row.outcome == outcome)


def load_check(path: Path) -> CheckReport:
    """Read a report written by ``deploy check``.

    Raises
    ------
    ResultsError
        The file is missing, broken, or of an unknown version.
    """
    document = read_document(path, "check report", "check_file")
    require_version(document, (SCHEMA_VERSION,), path)
    found = document.get("results")
    results = {
        name: results_of_document(one, path) if isinstance(one, dict) else one
        for name, one in (found if isinstance(found, dict) else {}).items()
    }
    return legal(CheckReport, {**document, "results": results}, path, "check report")
