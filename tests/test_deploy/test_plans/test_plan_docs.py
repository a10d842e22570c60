"""docs/prune/plans.md says what is there: its commands parse, its code runs and prints what the page shows."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from benchmarks.machine.lock import LOCK_VARIABLE
from deploy.cli.app import app

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "prune" / "plans.md").read_text(encoding="utf-8")
COMMANDS = typer.main.get_command(app).commands["plan"].commands
SHOWN = re.findall(r"^\$ deploy plan (.*)$", PAGE, re.MULTILINE)


def test_every_command_and_option_is_told_of():
    assert {line.split()[0] for line in SHOWN} == set(COMMANDS)
    for name, command in COMMANDS.items():
        for option in (option for parameter in command.params for option in parameter.opts if option.startswith("--")):
            assert option in PAGE, f"{name} {option}"


@pytest.mark.parametrize("line", SHOWN)
def test_shown_commands_parse(line):
    name, *arguments = shlex.split(line)
    COMMANDS[name].make_context(name, arguments)


@pytest.mark.slow
def test_code_runs_and_prints_what_the_page_shows(tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (printed,) = re.findall(r"It prints\n\n```text\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "page.py").write_text(code, encoding="utf-8")
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    environment[LOCK_VARIABLE] = os.environ[LOCK_VARIABLE]
    done = subprocess.run(
        [sys.executable, "page.py"], capture_output=True, text=True, check=False, cwd=tmp_path, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == printed
