"""A check report as JUnit XML: a suite per model, a case per limit.

It uses only what the schemas of Jenkins (``junit-10.xsd``) and Ant (``JUnit.xsd``) both allow.
"""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree as ET

from deploy.ci.check_report import CheckReport, CheckRow
from deploy.ci.formats.figures import allowed, measured
from deploy.ci.formats.verdict import WORDS
from deploy.files.printable import printable

__all__ = ["junit_xml"]


def junit_xml(report: CheckReport) -> str:
    """Return the XML.

    A broken limit is a failure, one that could not be judged an error. An undecided limit, or one measured on an unfit
    machine, is a failure or a skipped case, by the policy of the check file. Limits of one model share their
    measurements, so no case has its own time: each shows an equal part of the job's time.
    """
    root = ET.Element("testsuites")
    models = dict.fromkeys(row.model for row in report.rows)
    for index, model in enumerate(models):
        rows = [row for row in report.rows if row.model == model]
        _add_suite(root, report, index, model, rows)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=False).join(
        ('<?xml version="1.0" encoding="UTF-8"?>\n', "\n")
    )


def _add_suite(root: ET.Element, report: CheckReport, index: int, model: str, rows: Sequence[CheckRow]) -> None:
    kinds = [_kind(row) for row in rows]
    share = report.took_s * len(rows) / len(report.rows)
    suite = ET.SubElement(
        root,
        "testsuite",
        id=str(index),
        package=_shown("deploy check"),
        name=_shown(f"{report.title}: {model}"),
        timestamp=report.created_utc[:19].replace(" ", "T"),
        hostname="localhost",
        tests=str(len(rows)),
        failures=str(kinds.count("failure")),
        errors=str(kinds.count("error")),
        skipped=str(kinds.count("skipped")),
        time=f"{share:.3f}",
    )
    properties = ET.SubElement(suite, "properties")
    commit = "" if report.commit is None else f"{report.commit.sha}{' with changes' if report.commit.dirty else ''}"
    facts = {
        "check file": report.check_file,
        "commit": commit or "none",
        "machine": report.machine,
        "processor": report.environment.cpu or "unknown",
        "prune-deploy": report.tool_version,
    }
    for name, value in facts.items():
        ET.SubElement(properties, "property", name=name, value=_shown(value))
    for row, kind in zip(rows, kinds, strict=True):
        _add_case(suite, row, kind, share / len(rows))
    ET.SubElement(suite, "system-out").text = "\n".join(map(_figures, rows))
    ET.SubElement(suite, "system-err")


def _add_case(suite: ET.Element, row: CheckRow, kind: str, time_s: float) -> None:
    case = ET.SubElement(
        suite, "testcase", name=_shown(row.statement), classname=_shown(row.where), time=f"{time_s:.3f}"
    )
    if kind == "skipped":
        ET.SubElement(case, "skipped", message=_shown(f"{WORDS[row.verdict]}: {row.reason}"))
    elif kind:
        told = ET.SubElement(case, kind, message=_shown(row.reason), type=_shown(f"{row.limit} {WORDS[row.verdict]}"))
        facts = [row.line, *([f"to do: {row.remedy}"] if row.remedy else [])]
        told.text = "\n".join(map(_shown, facts))


def _kind(row: CheckRow) -> str:
    """Return the element name for the outcome of a case; empty if it passed."""
    if row.verdict == "failed" and row.outcome == "failure":
        return "error"
    return {"failure": "failure", "warning": "skipped", "passed": ""}[row.outcome]


def _figures(row: CheckRow) -> str:
    told = f"{WORDS[row.verdict]}; measured {measured(row)}; allowed {allowed(row)}"
    return _shown(f"{row.where}: {row.limit}: {told}; {row.reason}")


def _shown(text: str) -> str:
    """Escape characters that XML cannot hold."""
    return printable(text) or "-"
