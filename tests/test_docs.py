"""What the documents say can be done."""

from __future__ import annotations

import ast
import importlib
import os
import re
import runpy
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


PACKAGES = "deploy|pruners|backends|benchmarks"
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def _resolve(name: str) -> object:
    """Import the longest part of a dotted name that is a module, and take the attributes after it."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        module = ".".join(parts[:length])
        try:
            thing: object = importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{module}.".startswith(f"{error.name}."):
                raise
            continue
        for attribute in parts[length:]:
            thing = getattr(thing, attribute)
        return thing
    raise ModuleNotFoundError(name)


def _imported(text: str) -> set[str]:
    """Every name of ours that the Python in a page imports, dotted."""
    lines = re.findall(rf"^ *(from (?:{PACKAGES})\S* import .+?)(?: +#.*)?$", text, flags=re.MULTILINE)
    statements = [statement for line in lines for statement in ast.parse(line).body]
    return {f"{statement.module}.{alias.name}" for statement in statements for alias in statement.names}


def _shown_commands(text: str) -> list[str]:
    inline = re.findall(r"`(deploy [^`]+)`", text)
    blocks = re.findall(r"^    (deploy [a-z].*?)(?:  +#.*)?$", text, flags=re.MULTILINE)
    return [*inline, *blocks]


@each_page
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


@each_page
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_index_has_a_line_for_each_page():
    index = ROOT / "docs" / "README.md"
    listed = re.findall(r"^- \[(\S+)\]\((\S+)\): \S", index.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert all(name == target for name, target in listed)
    pages = [page.relative_to(index.parent).as_posix() for page in PAGES if index.parent in page.parents]
    assert sorted([*(name for name, _ in listed), index.name]) == sorted(pages)


OPTIONAL = {"pytorch_lightning", "distributed"}


@each_page
def test_names_in_python_exist(page):
    text = page.read_text(encoding="utf-8")
    if page.name == "CHANGELOG.md":  # the first cell of a row holds what is no more
        text = re.sub(r"^ *\| [^|]*\|", "|", text, flags=re.MULTILINE)
    for name in sorted(set(re.findall(rf"(?<![-.\w])(?:{PACKAGES})(?:\.[A-Za-z_]\w*)+", text)) | _imported(text)):
        try:
            _resolve(name)
        except (ImportError, AttributeError) as error:
            if getattr(error, "name", None) in OPTIONAL:
                continue  # CI leaves it out; the nightly checks have it
            pytest.fail(f"{page.name} names {name}: {error}")


@each_page
def test_paths_and_make_targets_exist(page):
    text = page.read_text(encoding="utf-8")
    for path in set(re.findall(rf"\b(?:{PACKAGES}|tests|tools|recipes|docs)/[\w./*-]*[\w*/]", text)):
        assert [*ROOT.glob(path)], f"{page.name} names {path}"
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    for target in set(re.findall(r"(?:`|^    )make ([a-z]+)", text, flags=re.MULTILINE)):
        assert target in targets, f"{page.name}: make {target}"


def test_every_command_is_documented():
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    for name in COMMANDS:
        assert f"deploy {name}" in text, f"no page tells of `deploy {name}`"


def test_the_page_of_commands_is_what_their_help_says():
    """Written by `make commands`."""
    written = runpy.run_path(str(ROOT / "tools" / "commands.py"))["page"]()
    assert (ROOT / "docs" / "commands.md").read_text(encoding="utf-8") == written, "make commands"


def _run_blocks(page: str, language: str, folder: Path) -> None:
    """Run the blocks of a page one after the other, in a fresh process and an empty folder."""
    blocks = re.findall(rf"```{language}\n(.*?)```", (ROOT / "docs" / page).read_text(encoding="utf-8"), re.DOTALL)
    assert blocks
    script = folder / "page.py"
    script.write_text("\n".join(blocks), encoding="utf-8")
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(folder)}
    environment[LOCK_VARIABLE] = os.environ[LOCK_VARIABLE]
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=False, cwd=folder, env=environment
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("page", "leaves"), [("prune.md", "plan.json"), ("prune/methods.md", "page.py")])
def test_python_of_a_page_runs(tmp_path, page, leaves):
    _run_blocks(page, "python", tmp_path)
    assert (tmp_path / leaves).is_file()


@pytest.mark.optional
@pytest.mark.parametrize(
    ("page", "library"),
    [(page, library) for page in ("prune.md", "python.md") for library in ("ultralytics", "transformers")]
    + [("python.md", "pytorch_lightning")],
)
def test_python_of_a_page_runs_where_its_library_is_installed(tmp_path, page, library):
    pytest.importorskip(library)
    _run_blocks(page, f"python {library}", tmp_path)
