"""Names that steer a terminal, turn text around, or forge lines and markup reach no terminal and no page."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from deploy.cli.app import app
from deploy.user_errors import guarded

GOLDEN = Path(__file__).parents[2] / "golden"
EVIL = "\x1b[31mRED\x1b]0;title\x07\u202egnp\r\nFORGED\x9b2J<b onload=\"'>&"


def hostile_model(path, width=8, domain=""):
    """Write a convolution and what follows it; every name in it is hostile."""
    weights = numpy_helper.from_array(np.ones((width, 3, 3, 3), np.float32), f"w{EVIL}")
    kind = f"Nothing{EVIL}" if domain else "Relu"
    nodes = [
        helper.make_node("Conv", [f"x{EVIL}", f"w{EVIL}"], [f"c{EVIL}"], name=f"conv{EVIL}", pads=[1] * 4),
        helper.make_node(kind, [f"c{EVIL}"], [f"y{EVIL}"], name=f"r{EVIL}", domain=domain, doc_string=EVIL),
    ]
    ends = [
        [helper.make_tensor_value_info(f"{name}{EVIL}", TensorProto.FLOAT, [1, channels, 8, 8])]
        for name, channels in (("x", 3), ("y", width))
    ]
    graph = helper.make_graph(nodes, f"g{EVIL}", *ends, [weights], doc_string=EVIL)
    opsets = [helper.make_opsetid("", 17), *([helper.make_opsetid(domain, 1)] if domain else [])]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9, producer_name=EVIL), path)
    return path


@pytest.fixture
def said(tmp_path, monkeypatch, capsys):
    """Run a command here; gives its exit code, and all that it printed and wrote on pages, which has to be harmless."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["deploy", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            guarded(app)
        out, err = capsys.readouterr()
        pages = [path.read_text(encoding="utf-8") for path in tmp_path.glob("*.html")]
        for text in (out, err, *pages):
            shown = re.sub(r"[\n\t\N{NO-BREAK SPACE}]", "", text)
            assert shown.isprintable(), re.sub(r"[ -~]", "", shown)
            assert not re.search(r"^FORGED", text, flags=re.MULTILINE)
        assert all("<b onload" not in page for page in pages)
        return ended.value.code, out + err + "".join(pages)

    return run


def spoiled(document):
    """Put the name into every name, label and message of a JSON document."""
    if isinstance(document, dict):
        hit = {"label", "name", "method", "title", "file"}
        return {
            key: f"{value}{EVIL}" if key in hit and isinstance(value, str) else spoiled(value)
            for key, value in document.items()
        }
    return [spoiled(one) for one in document] if isinstance(document, list) else document


@pytest.mark.parametrize("name", sorted(path.name for path in GOLDEN.glob("*.json")))
def test_a_kept_result_is_shown_harmless(said, tmp_path, name):
    document = spoiled(json.loads((GOLDEN / name).read_text(encoding="utf-8")))
    (tmp_path / "kept.json").write_text(json.dumps(document))
    said("report", "kept.json", "--page", "page.html")


def test_errors_name_hostile_files_harmless(said, tmp_path):
    file = tmp_path / f"{EVIL.replace('/', '')}.onnx"
    file.write_bytes(b"no model")
    for command in (("bench", file), ("report", file), ("plan", "show", file), ("table", "show", file)):
        code, text = said(*command)
        assert code == 2
        assert "\\u001b[31mRED" in text


def test_a_hostile_plan_is_shown_harmless(said, tmp_path):
    from pruners.plan import PruningPlan

    shapes = {f"conv{EVIL}": (0, 1), "other": (0, 1, 2)}
    plan = PruningPlan.from_kept(
        shapes, dict.fromkeys(shapes, 4), graph="0" * 64, inputs=(), method=f"l1{EVIL}", settings={f"s{EVIL}": EVIL}
    )
    plan.save(tmp_path / "plan.json")
    code, text = said("plan", "show", "plan.json", "--page", "page.html", "--svg", "plan.svg")
    assert code == 0
    assert "\\u001b" in text
    assert (tmp_path / "plan.svg").read_text(encoding="utf-8").replace("\n", "").isprintable()


def test_a_hostile_model_is_compiled_and_listed_harmless(said, tmp_path):
    code, text = said("compile", hostile_model(tmp_path / "m\x1b[31m.onnx"), "--threads", "1")
    assert code == 0
    assert "conv\\u001b[31mRED" in text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("bench a.onnx --fast --accept-unfit --threads 1 --page p.html", 0),
        ("compare a.onnx b.onnx --fast --accept-unfit --threads 1 --page p.html", 3),
        ("layers a.onnx --duration 1 --threads 1 --page p.html", 0),
        ("explain b.onnx --against a.onnx --threads 1 --page p.html", 0),
        ("bench c.onnx --threads 1 --fast", 2),
    ],
)
def test_a_hostile_model_is_measured_harmless(said, tmp_path, command, code):
    hostile_model(tmp_path / "a.onnx")
    hostile_model(tmp_path / "b.onnx", width=4)
    hostile_model(tmp_path / "c.onnx", domain=f"evil{EVIL}")
    assert said(*command.split())[0] == code
