"""JUnit XML, against the schemas that Jenkins and Ant check it with."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from deploy.ci.formats.junit import junit_xml
from tests.test_deploy.test_ci.test_formats import reports

SCHEMAS = Path(__file__).parent / "schemas"
KINDS = ("failure", "error", "skipped")
TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)


@pytest.fixture(scope="module")
def schemas():
    return [etree.XMLSchema(etree.parse(str(path))) for path in sorted(SCHEMAS.glob("*.xsd"))]


def require_valid(text, schemas):
    document = etree.fromstring(text.encode())
    for schema in schemas:
        schema.assertValid(document)


@pytest.mark.parametrize("report", [reports.MIXED, reports.PASSING], ids=["mixed", "passing"])
def test_it_is_valid(report, schemas):
    require_valid(junit_xml(report), schemas)


def test_it_is_as_in_the_golden_file(golden):
    golden("mixed.xml", junit_xml(reports.MIXED))


def test_a_suite_for_each_model_and_a_case_for_each_limit():
    root = ET.fromstring(junit_xml(reports.MIXED))
    assert [suite.get("name") for suite in root] == ["vision: classifier", "vision: detector", "vision: tracker"]
    cases = {(case.get("classname"), case.get("name")): [one.tag for one in case] for case in root.iter("testcase")}
    assert cases == {
        ("classifier on ort, 1 thread", "p99 of at most 8 ms"): [],
        ("classifier on ort, 1 thread", "at most 3 % slower than the baseline"): ["failure"],
        ("classifier on ort, 1 thread", "the answers of the baseline"): [],
        ("classifier", "a file of at most 1 MiB"): [],
        ("detector on ort, 1 thread", "p99 of at most 20 ms"): ["skipped"],
        ("detector on ort, 1 thread", "loaded within 300 ms"): ["failure"],
        ("tracker on ort, 1 thread", "at most 3 % slower than the baseline"): ["error"],
    }
    for suite in root:
        counts = [len(suite.findall("testcase")), *(len(suite.findall(f"testcase/{kind}")) for kind in KINDS)]
        assert counts == [int(suite.get(name)) for name in ("tests", "failures", "errors", "skipped")]
    assert sum(float(case.get("time")) for case in root.iter("testcase")) == pytest.approx(
        reports.MIXED.took_s, abs=0.01
    )
    assert "measured 6.21 ms [6.10, 6.40]" in root[0].findtext("system-out")


@given(data=st.data())
def test_whatever_names_hold_it_is_valid(schemas, data):
    texts = [data.draw(TEXT) for _ in range(8)]
    names = ("model", "file", "place", "limit", "statement", "reason", "remedy", "unit")
    row = reports.row(data.draw(st.sampled_from(["broken", "failed", "kept"])), **dict(zip(names, texts, strict=True)))
    title = data.draw(TEXT.filter(bool))
    text = junit_xml(reports.report(row, title=title, machine=data.draw(TEXT), check_file=data.draw(TEXT)))
    ET.fromstring(text)
    require_valid(text, schemas)
