"""A check report for a job on GitHub: annotations as workflow commands, the job summary and the step outputs.

The runner reads commands from the log, so the printed answer stands between marks that disable them, and every text
inside a command is escaped.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path

from deploy.ci.check_report import CheckReport, CheckRow
from deploy.ci.formats.markdown import markdown_summary
from deploy.ci.formats.places import file_in_repository
from deploy.ci.formats.verdict import WORDS, attention, outcome_of, verdict_of
from deploy.files.atomic import output_errors
from deploy.files.printable import printable

__all__ = ["SHOWN", "command", "github_annotations", "publish", "without_commands"]

SHOWN = 10
"""Maximum number of errors, and of warnings, that GitHub shows per step; it silently drops the others."""
_MOST_SUMMARY = 1024 * 1024
"""Maximum bytes of a step summary; GitHub drops a longer one entirely."""
_ROOM = 4096
"""Safety margin in bytes below that maximum."""


def github_annotations(report: CheckReport, environment: Mapping[str, str]) -> str:
    """Return one workflow command per row that is not kept, on the file of its model, the most severe first.

    Parameters
    ----------
    report : CheckReport
        Report of one job.
    environment : Mapping of str to str
        Environment of the job.
    """
    rows = attention(report)
    levels = {
        "error": [row for row in rows if row.outcome == "failure"],
        "warning": [row for row in rows if row.outcome != "failure"],
    }
    lines = [line for level, found in levels.items() for line in _annotations(report, level, found, environment)]
    return "\n".join(lines or [command("notice", verdict_of(report), title=report.title)]) + "\n"


def publish(report: CheckReport, environment: Mapping[str, str], files: Mapping[str, str]) -> None:
    """Append the summary and the step outputs to the files that the runner names; no effect outside GitHub.

    Parameters
    ----------
    report : CheckReport
        Report of one job.
    environment : Mapping of str to str
        Environment of the job.
    files : Mapping of str to str
        Further outputs: name and path of each file written.

    Raises
    ------
    OutputError
        One of the files cannot be written.
    """
    if summary := environment.get("GITHUB_STEP_SUMMARY"):
        path = Path(summary)
        with output_errors(path):
            used = path.stat().st_size if path.exists() else 0
            _append(path, markdown_summary(report, max(_MOST_SUMMARY - _ROOM - used, 0)))
    if outputs := environment.get("GITHUB_OUTPUT"):
        values = {
            "verdict": outcome_of(report),
            "exit-code": str(report.exit_code),
            "summary": verdict_of(report),
            **files,
        }
        path = Path(outputs)
        with output_errors(path):
            _append(path, "".join(_output(name, value) for name, value in values.items()))


def without_commands(text: str) -> str:
    """Return text for the log with workflow commands disabled."""
    token = secrets.token_hex(16)
    return f"::stop-commands::{token}\n{text}::{token}::\n"


def command(level: str, message: str, **properties: str) -> str:
    """Return a workflow command: ``::error file=net.onnx,title=...::message``."""
    told = ",".join(f"{name}={_property(value)}" for name, value in properties.items() if value)
    return f"::{level}{f' {told}' if told else ''}::{_data(message)}"


def _annotations(
    report: CheckReport, level: str, rows: list[CheckRow], environment: Mapping[str, str]
) -> Iterator[str]:
    shown = rows if len(rows) <= SHOWN else rows[: SHOWN - 1]
    for row in shown:
        remedy = f"\nTo do: {row.remedy}" if row.remedy else ""
        yield command(
            level,
            f"{row.reason}; limit: {row.statement}{remedy}",
            file=file_in_repository(report, row, environment),
            title=f"{row.where}: {row.limit} {WORDS[row.verdict]}",
        )
    if more := len(rows) - len(shown):
        yield command(level, f"{more} more rows are not kept: the job summary has them all", title=report.title)


def _output(name: str, value: str) -> str:
    """Return a step output between random delimiters that no value can contain."""
    delimiter = f"deploy-{secrets.token_hex(16)}"
    return f"{name}<<{delimiter}\n{printable(value)}\n{delimiter}\n"


def _append(path: Path, text: str) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(text)


def _data(text: str) -> str:
    return printable(text, "\n").replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
