"""The list of commands: every line is the command's own, and listing them imports none of them."""

from __future__ import annotations

import os
import subprocess
import sys
from inspect import cleandoc

import pytest
from typer.main import get_command

from deploy.cli.app import _OLD_FLAGS, COMMANDS, LazyGroup, app
from deploy.exit_codes import READER_LEFT
from deploy.user_errors import guarded

PACKAGES = ("deploy", "pruners", "backends", "benchmarks")
FILES = ["deploy.files", "deploy.files.printable", "deploy.files.scratch"]
LIGHT = ["deploy", "deploy.cli", "deploy.cli.app", "deploy.errors", "deploy.exit_codes", *FILES, "deploy.user_errors"]
NAMES = [(group, name) for group, commands in COMMANDS.items() for name in commands]


@pytest.mark.parametrize(("group", "name"), NAMES)
def test_the_line_of_a_command_is_its_own(group, name):
    commands = get_command(app).commands
    command = (commands if group == "deploy" else commands[group].commands)[name]
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
    ("words", "now"),
    [
        (("plan", "apply", "plan.json", "--network", "n", "--out", "here"), "--out is now --output"),
        (("plan", "show", "plan.json", "--html=page.html"), "--html is now --page"),
        (("study", "recipe.yaml", "--out", "here"), "--out is now --output"),
        (("layers", "-m", "a.onnx", "-a", "b.onnx"), "-a is now --baseline"),
        (("load", "-m", "a.onnx", "-s", "offline", "--budget", "3"), "--budget is now --duration"),
        (("bench", "-m", "a.onnx", "--against", "b.onnx"), "--against is now the command deploy compare"),
        (("bench", "-m", "a.onnx", "--strict"), "--strict is now an option of deploy compare"),
    ],
)
def test_an_old_flag_is_told_its_new_name(capsys, words, now):
    with pytest.raises(SystemExit) as ended:
        guarded(lambda: app(list(words)))
    (line,) = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2
    assert line.startswith(f"deploy: {now}")


@pytest.mark.parametrize(("group", "name"), NAMES)
def test_an_old_flag_is_no_flag_any_more(group, name):
    commands = get_command(app).commands
    command = (commands if group == "deploy" else commands[group].commands)[name]
    assert not {flag for owner, flag in _OLD_FLAGS if owner == name} & {
        flag for parameter in command.params for flag in parameter.opts
    }


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
