"""The list of commands: every line is the command's own, and listing them imports none of them."""

from __future__ import annotations

import subprocess
import sys
from inspect import cleandoc
from time import perf_counter

import pytest
from typer.main import get_command

from deploy.cli.app import COMMANDS, app

PACKAGES = ("deploy", "pruners", "backends", "benchmarks")
LIGHT = ["deploy", "deploy.cli", "deploy.cli.app", "deploy.errors", "deploy.exit_codes", "deploy.user_errors"]
NAMES = [(group, name) for group, commands in COMMANDS.items() for name in commands]


@pytest.mark.parametrize(("group", "name"), NAMES)
def test_the_line_of_a_command_is_its_own(group, name):
    commands = get_command(app).commands
    command = (commands if group == "deploy" else commands[group].commands)[name]
    assert command.name == name
    assert " ".join(cleandoc(command.help).split("\n\n")[0].split()) == COMMANDS[group][name].line


def test_the_list_of_commands_imports_none_of_them():
    code = (
        "import sys; from deploy.cli.app import app\n"
        "try: app(['--help'])\n"
        "finally: print(*sorted(n for n in sys.modules if n.split('.')[0] in PACKAGES))".replace(
            "PACKAGES", repr(PACKAGES)
        )
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1].split() == LIGHT
    for name in COMMANDS["deploy"]:
        assert f"\n  {name} " in done.stdout


def test_the_list_of_commands_is_quick():
    def seconds() -> float:
        started = perf_counter()
        subprocess.run([sys.executable, "-m", "deploy", "--help"], capture_output=True, check=True)
        return perf_counter() - started

    assert min(seconds() for _ in range(5)) < 0.5
