"""Code Quality findings and metrics for GitLab."""

from __future__ import annotations

import json
import re

from deploy.ci.formats.gitlab import code_quality, open_metrics
from tests.test_deploy.test_ci.test_formats import reports

SAMPLE = re.compile(r'(\w+)\{((?:\w+="(?:[^"\\\n]|\\[\\"n])*",?)*)\} (-?[0-9.e+-]+)')


def test_findings_are_as_in_the_golden_file(golden, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    golden("codequality.json", code_quality(reports.MIXED, {}))


def test_what_is_not_kept_is_a_finding_on_its_file(tmp_path):
    findings = json.loads(code_quality(reports.MIXED, {"CI_PROJECT_DIR": "."}))
    assert [one["location"]["path"].rpartition("/")[2] for one in findings] == [
        "tracker.onnx",
        "classifier.onnx",
        "detector.onnx",
        "detector.onnx",
    ]
    assert [one["severity"] for one in findings] == ["major", "critical", "major", "minor"]
    assert {"description", "check_name", "fingerprint", "severity", "location"} <= findings[0].keys()
    assert json.loads(code_quality(reports.report(reports.WRONG), {}))[0]["severity"] == "blocker"
    assert json.loads(code_quality(reports.PASSING, {})) == []


def test_a_fingerprint_stays_while_the_limit_does():
    def prints(*rows):
        return [one["fingerprint"] for one in json.loads(code_quality(reports.report(*rows), {}))]

    again = reports.SLOWER.model_copy(update={"observed": 0.06, "reason": "6 % slower", "outcome": "warning"})
    elsewhere = reports.SLOWER.model_copy(update={"place": "ort, 2 threads"})
    assert prints(reports.SLOWER) == prints(again)
    assert len(set(prints(reports.SLOWER, elsewhere, reports.WRONG))) == 3


def test_metrics_are_open_metrics():
    *lines, end = open_metrics(reports.MIXED).splitlines()
    assert end == "# EOF"
    samples = [SAMPLE.fullmatch(line) for line in lines if not line.startswith("#")]
    assert all(samples)
    observed = {one[2]: float(one[3]) for one in samples if one[1] == "deploy_check_observed"}
    assert observed['model="classifier",place="ort, 1 thread",limit="p99_ms",unit="ms"'] == 6.214
    assert len(observed) == 5
    odd = reports.row(model='a"b\\c\nd', place="x}y")
    assert all(SAMPLE.fullmatch(line) for line in open_metrics(reports.report(odd)).splitlines() if line[0] != "#")
