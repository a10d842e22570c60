"""What the documents say can be done."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.cli.app import app

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
COMMANDS = {command.name for command in app.registered_commands}


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
        callback = next(command.callback for command in app.registered_commands if command.name == name)
        source = Path(callback.__code__.co_filename).read_text(encoding="utf-8")
        for option in (word for word in options if word.startswith("--")):
            parameter = option.removeprefix("--").replace("-", "_")
            assert option in source or f"{parameter}:" in source, f"{page.name}: {shown}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_command_is_documented():
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    for name in COMMANDS:
        assert f"deploy {name}" in text, f"no page tells of `deploy {name}`"


def test_python_of_the_pruning_page_runs(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "prune.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) >= 2
    script = tmp_path / "page.py"
    script.write_text("\n".join(blocks), encoding="utf-8")
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=False, cwd=tmp_path, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "plan.json").is_file()
