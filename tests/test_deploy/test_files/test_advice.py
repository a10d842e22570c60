"""What a message advises can be done where it is read."""

from __future__ import annotations

import re
from inspect import signature

import pytest
from typer.main import get_command

import deploy
from backends.base import Availability
from backends.errors import OptionError
from benchmarks.process.measured import HOW_TO_WAIT
from benchmarks.subject.backend_options import require_backends
from benchmarks.subject.given import HOW_TO_GIVE
from deploy.cli.app import COMMANDS, app
from deploy.files.advice import ARGUMENTS, KEYS, PYTHON, RECIPE, Place, advised, fitting
from deploy.recipe import Recipe
from deploy.report.answer.ending import ending_of
from deploy.report.answer.records import Checked

MESSAGES = [
    HOW_TO_WAIT,
    HOW_TO_GIVE,
    "net.onnx is typed int8: it cannot be executed in fp32; pass --precision int8",
    "backend 'ort' cannot run here: it has no device 'cuda'; pass --device cpu",
    "it has no device 'cuda:9'; pass --device cuda:0 to cuda:7",
    "6 threads cannot be shared by 4 streams; pass --threads 4",
    "the answers differ from call to call; they cannot be checked, time the model with --no-check",
    "that is more memory than a process gets here: try smaller sizes with --batch or --shape",
    "save the file with an older ir_version, try --backend openvino, or update onnxruntime",
    "--threads 9000: at most 4,096 are started",
    "do not use it there: try another --backend or --precision, or export the model again",
    "measure longer, with --budget 120, or on a quieter machine; deploy calibrate says how small a difference it shows",
]
QUOTED = [
    "keep the baseline, or see why: deploy explain pruned.onnx --against dense.onnx --batch 8",
    "it does not load: pip install --force-reinstall onnxruntime --no-check",
    "answers were not checked by this-tool--no-check",
]
_FLAG = re.compile(r"(?<![\w-])--[a-z-]+")
COMMANDS_WITH_OPTIONS = [(group, name) for group, of in COMMANDS.items() for name, entry in of.items() if entry.where]


@pytest.mark.parametrize(
    ("text", "in_a_recipe"),
    [
        ("pass --precision int8", "set bench.precision: int8"),
        (HOW_TO_WAIT, "a larger bench.budget_s waits longer"),
        ("pass --device cuda:0 to cuda:7", "set bench.device: cuda:0 to cuda:7"),
        ("try another --backend or --precision, or", "try another bench.backends or bench.precision, or"),
        ("with --budget 120, or", "with bench.budget_s: 120, or"),
        ("time the model with --no-check", "time the model with deploy bench --no-check"),
        ("--inputs FILE.npz, --input NAME=VALUE", "deploy bench --inputs FILE.npz, --input NAME=VALUE"),
    ],
)
def test_a_recipe_is_advised_by_its_keys(text, in_a_recipe):
    assert RECIPE.fitting(text) == in_a_recipe


@pytest.mark.parametrize(
    ("text", "in_python"),
    [
        ("pass --precision int8", "pass precision='int8'"),
        ("pass --threads 2", "pass threads=2"),
        (HOW_TO_WAIT, "a larger budget_s waits longer"),
        ("time the model with --no-check", "time the model with check=False"),
        ("smaller sizes with --batch or --shape", "smaller sizes with batch or shapes"),
    ],
)
def test_a_call_is_advised_by_its_arguments(text, in_python):
    assert PYTHON.fitting(text) == in_python


def test_arguments_that_are_named_are_those_of_the_call():
    known = signature(deploy.bench).parameters
    assert {name.partition("=")[0] for name in ARGUMENTS.values()} <= known.keys()


def test_a_call_that_is_refused_names_an_argument(tmp_path):
    with pytest.raises(deploy.DeployError, match=r"^threads=9000: at most"):
        deploy.bench(tmp_path / "none.onnx", threads=9000)


def test_keys_that_are_named_are_keys_of_a_recipe():
    bench = Recipe.model_fields["bench"].annotation
    assert {key.removeprefix("bench.") for key in KEYS.values()} <= bench.model_fields.keys()


@pytest.mark.parametrize(("group", "name"), COMMANDS_WITH_OPTIONS)
def test_no_command_is_advised_an_option_that_it_does_not_have(group, name):
    commands = get_command(app).commands
    command = (commands if group == "deploy" else commands[group].commands)[name]
    options = frozenset(flag for one in command.params for flag in one.opts)
    place = Place(options, recipe=any(one.name == "recipe" for one in command.params))
    bench = {flag for one in commands["bench"].params for flag in one.opts}
    for text in MESSAGES:
        own, _, of_bench = place.fitting(text).partition("deploy bench ")
        assert set(_FLAG.findall(own)) <= options
        assert set(_FLAG.findall(of_bench)) <= options | bench


@pytest.mark.parametrize("text", QUOTED)
def test_a_command_that_is_quoted_stays_as_it_is(text):
    assert RECIPE.fitting(text) == text


def test_a_load_is_told_of_its_duration():
    assert Place(frozenset({"--duration"})).fitting(HOW_TO_WAIT) == "a larger --duration waits longer"


def test_mistakes_fit_the_place_that_raises_them(monkeypatch):
    def probe(name, device):
        return Availability(ok=False, reason="it has no device 'cuda'", hint="pass --device cpu")

    monkeypatch.setattr("backends.registry.probe", probe)
    with pytest.raises(Exception, match=r"; set bench\.device: cpu$"), advised(RECIPE):
        require_backends(["ort"], "cuda")
    with pytest.raises(ZeroDivisionError, match="--threads"), advised(RECIPE):
        raise ZeroDivisionError("pass --threads 2")  # a defect is reported as it is
    with pytest.raises(OptionError, match="pass --threads 2"):
        raise OptionError("pass --threads 2")


def test_the_ending_of_a_run_names_keys():
    with advised(RECIPE):
        assert "bench.budget_s: 120" in ending_of(3, (), Checked(), budget_s=60).remedy
        assert "bench.precision" in ending_of(5, (), Checked()).remedy
        assert fitting("no advice") == "no advice"
    assert "--budget 120" in ending_of(3, (), Checked(), budget_s=60).remedy
