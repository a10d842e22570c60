"""The pages of records explain every field; files of load and layers stay readable."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from benchmarks.layers.comparison import LayerReport
from benchmarks.layers.explanation import Explanation
from benchmarks.records.base import Record
from benchmarks.scenarios import SCENARIOS
from benchmarks.scenarios.load import LoadMeasurement
from deploy.results.results import Results

ROOT = Path(__file__).parents[3]
GOLDEN = ROOT / "tests" / "golden" / "results-v1.json"


def records_in(kind: type[Record]) -> dict[str, type[Record]]:
    """Collect every record that can occur inside `kind`."""
    known = {one.__name__: one for one in subclasses(Record)}
    inside = kind.model_json_schema().get("$defs", {}).keys()
    return {kind.__name__: kind, **{name: known[name] for name in inside if name in known}}


def subclasses(kind: type) -> list[type]:
    return [one for child in kind.__subclasses__() for one in (child, *subclasses(child))]


def require_documented(page: str, records: dict[str, list[str]]) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    for name, fields in records.items():
        assert f"## {name}\n" in text, f"docs/{page} has no section {name}"
        section = text.split(f"## {name}\n", 1)[1].split("\n## ", 1)[0]
        for field in fields:
            assert f"| `{field}` |" in section, f"docs/{page} does not explain {name}.{field}"
        documented = [line.split("`")[1] for line in section.splitlines() if line.startswith("| `")]
        assert documented == fields


def fields_in(*kinds: type[Record]) -> dict[str, list[str]]:
    records = {name: record for kind in kinds for name, record in records_in(kind).items()}
    return {name: list(record.model_fields) for name, record in records.items()}


def test_the_page_documents_every_field():
    fields = fields_in(Results)
    assert {"Results", "ModelRow", "Comparison", "Measurement", "Trial", "Environment", "NodeCost"} <= fields.keys()
    require_documented("results.md", fields)


def test_the_page_of_load_and_layers_documents_every_other_field():
    fields = fields_in(LoadMeasurement, LayerReport, Explanation)
    assert {"LoadMeasurement", "ServerResult", "ServerProbe", "LayerRow", "Roofline", "LayerSide"} <= fields.keys()
    scenarios = {kind.__name__: [field.name for field in dataclasses.fields(kind)] for kind in SCENARIOS.values()}
    elsewhere = fields_in(Results).keys()
    require_documented("records.md", {n: f for n, f in {**fields, **scenarios}.items() if n not in elsewhere})


NEWER = {"subject": {"inputs"}}


def test_files_of_load_and_layers_stay_readable():
    lines = (GOLDEN.parent / "load-1.jsonl").read_text(encoding="utf-8").splitlines()
    loads = [LoadMeasurement.model_validate_json(line) for line in lines]
    assert {load.result and load.result.scenario for load in loads} == {*SCENARIOS, None}
    assert json.loads(loads[0].model_dump_json(exclude=NEWER)) == json.loads(lines[0])
    text = (GOLDEN.parent / "layers-1.json").read_text(encoding="utf-8")
    report = LayerReport.model_validate_json(text)
    assert report.profiles[0].macs > 0
    assert json.loads(report.model_dump_json(exclude={"profiles": {"__all__": NEWER}})) == json.loads(text)
    text = (GOLDEN.parent / "explanation-1.json").read_text(encoding="utf-8")
    explanation = Explanation.model_validate_json(text)
    newer = {"dense": {"inputs"}, "pruned": {"inputs"}, "plans": {"__all__": {"importance"}}}
    assert json.loads(explanation.model_dump_json(exclude=newer)) == json.loads(text)
