"""The list of commands: every line is the command's own, and listing them imports none of them."""

from __future__ import annotations

import os
import subprocess
import sys
from inspect import cleandoc

import pytest
from typer.main import get_command

from deploy.cli.app import COMMANDS, LazyGroup, app
from deploy.cli.spellings import MODEL_MAY_BE_AN_OPTION, RENAMED, respelt
from deploy.exit_codes import READER_LEFT

PACKAGES = ("deploy", "pruners", "backends", "benchmarks")
FILES = ["deploy.files", "deploy.files.printable", "deploy.files.scratch"]
CLI = ["deploy.cli", "deploy.cli.app", "deploy.cli.spellings"]
LIGHT = ["deploy", *CLI, "deploy.errors", "deploy.exit_codes", *FILES, "deploy.user_errors"]
NAMES = [(group, name) for group, commands in COMMANDS.items() for name in commands]


def _command(group, name):
    commands = get_command(app).commands
    return (commands if group == "deploy" else commands[group].commands)[name]


@pytest.mark.parametrize(("group", "name"), NAMES)
def test_the_line_of_a_command_is_its_own(group, name):
    command = _command(group, name)
    assert command.name == name
    assert " ".join(cleandoc(command.help).split("\n\n")[0].split()) == COMMANDS[group][name].line


def test_the_list_of_commands_imports_none_of_them():
    code = (
        "import sys, deploy.user_errors; from deploy.cli.app import app\n"
        "try: app(['--help'])\n"
        "finally: print(*sorted(n for n in sys.modules if n.split('.')[0] in PACKAGES))".replace(
            "PACKAGES", repr(PACKAGES)
        )
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1].split() == LIGHT
    for name in COMMANDS["deploy"]:
        assert f"\n  {name} " in done.stdout


def test_a_key_that_a_module_lacks_is_not_an_unknown_command(monkeypatch):
    def broken(_: str) -> None:
        raise KeyError("inside")

    monkeypatch.setattr(sys.modules[LazyGroup.__module__], "import_module", broken)
    with pytest.raises(KeyError, match="inside"):
        app(["doctor"])


@pytest.mark.parametrize(
    ("command", "words", "now", "line"),
    [
        (("plan", "apply"), "p.json --out here", "p.json --output here", "--out is now --output"),
        (("plan", "show"), "p.json --html=page.html", "p.json --page=page.html", "--html is now --page"),
        (("study", "run"), "s.yaml --out here", "s.yaml --output here", "--out is now --output"),
        (("deploy", "layers"), "a --baseline b", "a --against b", "--baseline is now --against"),
        (("deploy", "load"), "a --budget 3", "a --duration 3", "--budget is now --duration"),
        (("deploy", "bench"), "-a b -m a -b ort", "--against b -b ort a", "-a is now --against"),
    ],
)
def test_an_old_spelling_works_and_is_told_the_new_one(command, words, now, line):
    said = []
    assert respelt(command, words.split(), said.append) == now.split()
    assert any(line in one for one in said)
    assert all(one.startswith("deploy: ") for one in said)


@pytest.mark.parametrize(
    ("command", "words", "now"),
    [
        (("deploy", "bench"), "--model=a --fast", "--fast a"),
        (("deploy", "compile"), "-ma", "a"),
        (("table", "check"), "--model d.onnx t.json", "t.json d.onnx"),
        (("deploy", "bench"), "-m a -- b", "-- b a"),
    ],
)
def test_a_model_may_be_an_option(command, words, now):
    assert respelt(command, words.split(), pytest.fail) == now.split()


@pytest.mark.parametrize(("group", "name"), NAMES)
def test_an_old_spelling_is_no_option_any_more(group, name):
    options = {flag for parameter in _command(group, name).params for flag in parameter.opts}
    renamed = RENAMED.get((group, name), {})
    assert not renamed.keys() & options
    assert set(renamed.values()) <= options
    if (group, name) in MODEL_MAY_BE_AN_OPTION:
        assert not {"--model", "-m"} & options


def test_a_study_is_named_by_its_recipe_alone(here):
    new, old = here("study", "none.yaml"), here("study", "run", "none.yaml")
    assert (new.returncode, old.returncode) == (2, 2)
    (line,) = new.stderr.splitlines()
    assert old.stderr.splitlines() == ["deploy: deploy study run RECIPE is now deploy study RECIPE", line]
    text = here("study", "-h").stdout
    assert text.startswith("Usage: deploy study [OPTIONS]")
    assert "--jobs" in text
    assert "\n  coverage " in text
    assert "\n  run " not in text
    assert "RECIPE" in here("study", "none.yaml", "--help").stdout


@pytest.mark.parametrize(("group", "name"), NAMES)
def test_help_is_whole_at_80_columns(here, monkeypatch, group, name):
    monkeypatch.setenv("COLUMNS", "80")
    words = [name] if group == "deploy" else ["study", "x.yaml"] if (group, name) == ("study", "run") else [group, name]
    text = here(*words, "-h").stdout
    assert max(map(len, text.splitlines())) <= 80
    told = "".join(text.split())
    for parameter in getattr(_command(group, name), "params", ()):
        assert not parameter.help or "".join(parameter.help.split()) in told
        assert all(option in told for option in parameter.opts if option.startswith("-"))


def test_completion_knows_commands_without_importing_them(here, monkeypatch):
    monkeypatch.setattr(sys.modules[LazyGroup.__module__], "import_module", lambda _: pytest.fail("imported"))
    monkeypatch.setenv("_DEPLOY_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "deploy c")
    monkeypatch.setenv("COMP_CWORD", "1")
    assert here().stdout.split() == ["compare", "calibrate", "compile", "check", "comment"]


def test_a_reader_that_leaves_is_no_verdict():
    """1 is "slower": what follows a broken pipe is 141, as a shell reports it."""
    ours, theirs = os.pipe()
    os.close(ours)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "deploy", "list"], stdout=theirs, stderr=subprocess.PIPE, text=True, timeout=60
        )
    finally:
        os.close(theirs)
    assert (done.returncode, done.stderr) == (READER_LEFT, "")
