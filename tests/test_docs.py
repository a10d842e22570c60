"""What the documents say can be done."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from benchmarks.machine.lock import LOCK_VARIABLE
from deploy.cli.app import app

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
COMMANDS = get_command(app).commands


def _shown_commands(text: str) -> list[str]:
    inline = re.findall(r"`(deploy [^`]+)`", text)
    blocks = re.findall(r"^    (deploy [a-z].*?)(?:  +#.*)?$", text, flags=re.MULTILINE)
    return [*inline, *blocks]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_options_exist(page):
    for shown in _shown_commands(page.read_text(encoding="utf-8")):
        name, *options = shown.split()[1:]
        if name.startswith("-"):
            continue
        assert name in COMMANDS, f"{page.name}: {shown}"
        command = COMMANDS[name]
        if hasattr(command, "commands") and options:
            chosen = "run" if name == "study" and options[0].startswith(("RECIPE", "recipes/")) else options[0]
            assert chosen in command.commands, f"{page.name}: {shown}"
            command = command.commands[chosen]
        known = {option for parameter in command.params for option in parameter.opts + parameter.secondary_opts}
        for option in (word.partition("=")[0] for word in options if word.startswith("--")):
            assert option in known | {"--help"}, f"{page.name}: {shown}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_command_is_documented():
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    for name in COMMANDS:
        assert f"deploy {name}" in text, f"no page tells of `deploy {name}`"


@pytest.mark.parametrize(("page", "leaves"), [("prune.md", "plan.json"), ("methods.md", "page.py")])
def test_python_of_a_page_runs(tmp_path, page, leaves):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / page).read_text(encoding="utf-8"), re.DOTALL)
    assert blocks
    script = tmp_path / "page.py"
    script.write_text("\n".join(blocks), encoding="utf-8")
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    environment[LOCK_VARIABLE] = os.environ[LOCK_VARIABLE]
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=False, cwd=tmp_path, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / leaves).is_file()
