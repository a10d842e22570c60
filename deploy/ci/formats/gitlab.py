"""A check report for a job on GitLab: Code Quality findings for the merge request, and metrics in OpenMetrics text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from deploy.ci.check_report import CheckReport, CheckRow
from deploy.ci.formats.places import file_in_repository
from deploy.ci.formats.verdict import WORDS, attention
from deploy.files.printable import printable

__all__ = ["code_quality", "open_metrics"]

_ANSWERS = "answers"


def code_quality(report: CheckReport, environment: Mapping[str, str]) -> str:
    """Return a Code Quality report: one finding per row that is not kept; an empty list if there is none.

    A finding has the same fingerprint in every run, whatever was measured: GitLab uses it to tell what is new.

    Parameters
    ----------
    report : CheckReport
        Report of one job.
    environment : Mapping of str to str
        Environment of the job.
    """
    findings = [_finding(report, row, environment) for row in attention(report)]
    return json.dumps(findings, indent=1) + "\n"


def open_metrics(report: CheckReport) -> str:
    """Return the measured and the allowed value of each limit as OpenMetrics text."""
    lines = []
    for name, about in (("observed", "what was measured for a limit"), ("allowed", "the limit")):
        family = f"deploy_check_{name}"
        lines += [f"# TYPE {family} gauge", f"# HELP {family} {about}"]
        lines += [
            f"{family}{_labels(row)} {value!r}"
            for row in report.rows
            if (value := row.observed if name == "observed" else row.allowed) is not None
        ]
    return "\n".join([*lines, "# EOF"]) + "\n"


def _finding(report: CheckReport, row: CheckRow, environment: Mapping[str, str]) -> dict[str, Any]:
    key = "\0".join((report.title, row.model, row.place, row.limit, row.statement))
    remedy = f". To do: {row.remedy}" if row.remedy else ""
    return {
        "description": printable(f"{row.where}: {row.reason}; limit: {row.statement}{remedy}"),
        "check_name": f"deploy-check/{printable(row.limit)}",
        "fingerprint": sha256(key.encode()).hexdigest(),
        "severity": _severity(row),
        "location": {"path": printable(file_in_repository(report, row, environment)), "lines": {"begin": 1}},
        "categories": ["Performance"],
    }


def _severity(row: CheckRow) -> str:
    if row.outcome != "failure":
        return "info" if row.verdict == "kept" else "minor"
    if row.verdict == "broken":
        return "blocker" if row.limit == _ANSWERS else "critical"
    return "major"


def _labels(row: CheckRow) -> str:
    labels = {
        "model": row.model,
        "place": row.place,
        "limit": row.limit,
        "unit": row.unit,
        "verdict": WORDS[row.verdict],
    }
    written = ",".join(f'{name}="{_label(value)}"' for name, value in labels.items() if value and name != "verdict")
    return f"{{{written}}}"


def _label(text: str) -> str:
    return printable(text).replace("\\", "\\\\").replace('"', '\\"')
