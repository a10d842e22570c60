"""Sum up a check report in one sentence, and order its rows by severity."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from deploy import exit_codes
from deploy.ci.check_report import CheckReport, CheckRow, Outcome, RowVerdict
from deploy.report.answer.records import Ending

__all__ = ["WORDS", "attention", "by_gravity", "ending_of_check", "kept", "outcome_of", "setting_of", "verdict_of"]

WORDS: dict[RowVerdict, str] = {
    "failed": "not checked",
    "broken": "broken",
    "unfit": "unfit machine",
    "inconclusive": "undecided",
    "kept": "kept",
}
"""Display word of each verdict, the most severe first."""

_ANSWERS = "answers"
_ORDER = tuple(WORDS)


def verdict_of(report: CheckReport) -> str:
    """Count the verdicts: ``"5 of 6 limits kept; 1 broken"``."""
    counts = Counter(row.verdict for row in report.rows)
    total, n_kept = len(report.rows), counts.pop("kept", 0)
    if n_kept == total:
        return "the limit is kept" if total == 1 else f"all {total} limits kept"
    others = ", ".join(f"{counts[verdict]} {word}" for verdict, word in WORDS.items() if counts[verdict])
    return f"{n_kept} of {total} {'limit' if total == 1 else 'limits'} kept; {others}"


def outcome_of(report: CheckReport) -> Outcome:
    """Return the outcome of the job as a whole."""
    if report.exit_code:
        return "failure"
    return "warning" if report.with_outcome("warning") else "passed"


def setting_of(report: CheckReport) -> str:
    """Describe check, commit and time: ``"vision at 0123456789ab; took 42 s, budget 120 s"``."""
    commit = report.commit
    at = "" if commit is None else f" at {commit.sha[:12]}{' with changes' if commit.dirty else ''}"
    again = ", measured longer where it was not decided" if report.retried else ""
    return f"{report.title}{at}; took {report.took_s:.0f} s, budget {report.budget_s:.0f} s{again}"


def by_gravity(rows: Iterable[CheckRow]) -> tuple[CheckRow, ...]:
    """Sort rows: failures before warnings, wrong answers first of all; ties as in the check file."""
    return tuple(sorted(rows, key=_gravity))


def attention(report: CheckReport) -> tuple[CheckRow, ...]:
    """Return the rows that are not kept, the most severe first."""
    return by_gravity(row for row in report.rows if row.verdict != "kept")


def kept(report: CheckReport) -> tuple[CheckRow, ...]:
    """Return the kept rows, in the order of the check file."""
    return tuple(row for row in report.rows if row.verdict == "kept")


def ending_of_check(report: CheckReport) -> Ending:
    """Return the exit code and its sentence; remedies are given with the rows."""
    code = report.exit_code
    failures = by_gravity(report.with_outcome("failure"))
    warnings = report.with_outcome("warning")
    match code:
        case exit_codes.WRONG_ANSWERS:
            sentence = f"wrong answers: {_places(row for row in failures if row.limit == _ANSWERS)}"
        case exit_codes.USAGE:
            sentence = f"not checked: {_named(failures, 'failed')}"
        case exit_codes.REGRESSION:
            sentence = f"broken: {_named(failures, 'broken')}"
        case exit_codes.UNFIT:
            sentence = f"the machine was not fit for measuring: {_named(failures, 'unfit')}"
        case exit_codes.INCONCLUSIVE:
            sentence = f"not decided: {_named(failures, 'inconclusive')}"
        case _ if warnings:
            counted = "1 limit" if len(warnings) == 1 else f"{len(warnings)} limits"
            sentence = f"nothing is broken; {counted} of {len(report.rows)} not decided, a warning by the check file"
        case _:
            sentence = "every limit is kept"
    return Ending(code=code, sentence=sentence)


def _gravity(row: CheckRow) -> tuple[bool, bool, int]:
    wrong = row.limit == _ANSWERS and row.verdict == "broken"
    return row.outcome != "failure", not wrong, _ORDER.index(row.verdict)


def _named(rows: Iterable[CheckRow], verdict: RowVerdict) -> str:
    """Name the first row with a verdict, and count the others."""
    found = [row for row in rows if row.verdict == verdict]
    more = f", and {len(found) - 1} more" if len(found) > 1 else ""
    return f"{found[0].limit} of {found[0].where}{more}"


def _places(rows: Iterable[CheckRow]) -> str:
    return ", ".join(dict.fromkeys(row.where for row in rows if row.verdict == "broken"))
