"""What stands in a check file, and what is said about a wrong one."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path

import pytest

from deploy.ci.check_file import CheckFile, find_check_file, load_check_file, schema
from deploy.errors import CheckFileError

YAML = """
budget: 90
inconclusive: warn
limits: {slower: 2 %}
models:
  - {model: a/net.onnx, baseline: git:HEAD~1, backends: [ort, openvino], threads: 1}
  - {model: b/net.onnx, name: second, limits: {p99_ms: 8, macs: 300M, parameters: 5.5k, file_mb: 20}}
"""


def test_yaml_and_toml_say_the_same(tmp_path):
    (tmp_path / "deploy-check.yaml").write_text(YAML)
    (tmp_path / "pyproject.toml").write_text(
        "[tool.deploy.check]\nbudget = 90\ninconclusive = 'warn'\nlimits = {slower = 0.02}\n"
        "[[tool.deploy.check.models]]\nmodel = 'a/net.onnx'\nbaseline = 'git:HEAD~1'\nbackends = ['ort', 'openvino']\n"
        "threads = 1\n[[tool.deploy.check.models]]\nmodel = 'b/net.onnx'\nname = 'second'\n"
        "limits = {p99_ms = 8, macs = '300M', parameters = 5500, file_mb = 20}\n"
    )
    read = load_check_file(tmp_path / "deploy-check.yaml")
    assert read == load_check_file(tmp_path / "pyproject.toml")
    assert read.names() == ("net", "second")
    assert read.models[1].limits.macs == 3e8
    assert find_check_file(tmp_path).name == "deploy-check.yaml"


def test_a_baseline_brings_the_usual_limits_and_own_limits_go_first():
    file = CheckFile.model_validate(
        {
            "limits": {"slower": "2%", "file_mb": 9},
            "models": [
                {"model": "a.onnx", "baseline": "b.onnx", "limits": {"larger_file": None}},
                {"model": "c.onnx", "limits": {"p50_ms": 3}},
            ],
        }
    )
    first, second = (file.limits_of(model) for model in file.models)
    assert (first.slower, first.more_memory, first.larger_file, first.file_mb) == (0.02, 0.03, None, 9)
    assert (second.slower, second.more_memory, second.p50_ms, second.file_mb) == (None, None, 3, 9)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("models: []", "models"),
        ("modles: [{model: a.onnx}]", "unknown key 'modles'; did you mean 'models'"),
        ("models: [{model: a.onnx}]", "model 'a' has no limit: give limits, or a baseline"),
        ("models: [{model: a.onnx, limits: {slower: 3 %}}]", "'slower' is relative to a baseline: give one"),
        ("models: [{model: a.onnx, limits: {answers: same}}]", "'answers' is relative to a baseline"),
        ("models: [{model: a.onnx, limits: {accuracy: {data: d.npz}}}]", "give at_least, or max_drop"),
        ("models: [{model: a.onnx, limits: {slower: fast}}]", "write a share, for example 3 % or 0.03"),
        ("models: [{model: a.onnx, limits: {macs: many}}]", "write a number, for example 300M"),
        ("models: [{model: a.onnx, limits: {p99_ms: -1}}]", "models.0.limits.p99_ms"),
        (
            "models: [{model: x/a.onnx, limits: {p50_ms: 1}, name: n}, {model: a.onnx, limits: {p50_ms: 1}, name: n}]",
            "two models are called 'n'",
        ),
        ("inconclusive: ignore\nmodels: [{model: a.onnx, baseline: b.onnx}]", "inconclusive"),
        ("- a\n- b", "a check file is a mapping of keys to values, got list"),
        ("models: [", "deploy-check.yaml"),
    ],
)
def test_one_line_says_what_is_wrong(tmp_path, text, words):
    path = tmp_path / "deploy-check.yaml"
    path.write_text(text)
    with pytest.raises(CheckFileError) as caught:
        load_check_file(path)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named_with_what_to_do(tmp_path):
    with pytest.raises(CheckFileError, match=r"no deploy-check\.yaml here.*write one"):
        find_check_file(tmp_path)
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    with pytest.raises(CheckFileError, match=r"no table \[tool\.deploy\.check\]"):
        load_check_file(tmp_path / "pyproject.toml")
    with pytest.raises(CheckFileError, match="no such file"):
        load_check_file(tmp_path / "nowhere.yaml")


def test_models_are_chosen_by_pattern():
    models = [{"model": f"{name}.onnx", "limits": {"p50_ms": 1}} for name in ("dense", "deep", "other")]
    file = CheckFile.model_validate({"models": models})
    assert file.only(["de*"]).names() == ("dense", "deep")
    with pytest.raises(CheckFileError, match="matches no model; did you mean 'dense'"):
        file.only(["dnse"])


def test_the_schema_that_ships_knows_every_key():
    described = json.loads(schema())
    shipped = files("deploy.ci").joinpath("deploy-check.schema.json").read_text(encoding="utf-8")
    assert json.loads(shipped) == described, "make commands"
    assert described["$schema"].startswith("https://json-schema.org/")
    assert {"models", "budget", "inconclusive", "unfit", "limits"} <= described["properties"].keys()
    slower = json.dumps(described["$defs"]["Limits"]["properties"]["slower"])
    assert '"string"' in slower, "an editor must not mark '3 %' as wrong"


def test_the_check_files_of_the_docs_are_legal(tmp_path):
    page = (Path(__file__).parents[3] / "docs" / "ci.md").read_text(encoding="utf-8")
    blocks = [block for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL) if "models:\n  - " in block]
    assert len(blocks) >= 2
    for block in blocks:
        (tmp_path / "deploy-check.yaml").write_text(block, encoding="utf-8")
        assert load_check_file(tmp_path / "deploy-check.yaml").names() == ("classifier",)
