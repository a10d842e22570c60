"""Write docs/commands.md from the help of the commands, and the schema of check files; ``--check`` only compares."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from inspect import cleandoc
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "commands.md"
SCHEMA = ROOT / "deploy" / "ci" / "deploy-check.schema.json"
sys.path.insert(0, str(ROOT))

HEAD = """# The commands

Written by `make commands` from the help of each command, which `-h` prints. Progress and mistakes go to standard
error, results to standard output. `deploy --install-completion` teaches the shell to complete them; where
another package is called `deploy`, the command is `prune-deploy`.
"""


def page() -> str:
    """Return the text of the page."""
    from typer.main import get_command

    from deploy.cli.app import COMMANDS, app

    root = get_command(app)
    parts = [HEAD, "\n".join(_contents(COMMANDS))]
    for group, entries in COMMANDS.items():
        commands = root.commands if group == "deploy" else root.commands[group].commands
        for name in entries:
            if (group, name) not in {("deploy", one) for one in COMMANDS}:
                parts.append(_command(_title(group, name), commands[name]))
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _title(group: str, name: str) -> str:
    if (group, name) == ("study", "run"):
        return "deploy study"
    return f"deploy {name}" if group == "deploy" else f"deploy {group} {name}"


def _contents(commands: dict[str, Any]) -> Iterator[str]:
    yield "| command | what it does |"
    yield "|---|---|"
    for group, entries in commands.items():
        for name, entry in entries.items():
            if entry.where:
                title = _title(group, name)
                yield f"| [`{title}`](#{title.replace(' ', '-')}) | {_cell(entry.line)} |"


def _command(title: str, command: Any) -> str:
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options = [one for one in command.params if one.param_type_name == "option"]
    usage = " ".join([title, *(one.metavar or one.name.upper() for one in arguments), "[OPTIONS]"])
    lines = [f"## {title}", "", f"    {usage}", "", *cleandoc(command.help).splitlines(), ""]
    if arguments:
        lines += ["| argument | |", "|---|---|", *_rows(arguments), ""]
    lines += ["| option | |", "|---|---|", *_rows(options)]
    return "\n".join(lines)


def _rows(parameters: Iterable[Any]) -> Iterator[str]:
    for one in parameters:
        named = one.param_type_name == "option"
        flags = sorted([*one.opts, *one.secondary_opts], key=len) if named else [one.metavar or one.name.upper()]
        default = one.default
        shown = "" if default in (None, False, True, ()) or callable(default) else f" Default: `{default}`."
        needed = " Required." if named and one.required else ""
        yield f"| {', '.join(f'`{flag}`' for flag in flags)} | {_cell(one.help or '')}{needed}{shown} |"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def main() -> int:
    """Write both, or with ``--check`` compare the page with the help of the commands."""
    from deploy.ci.check_file import schema

    text = page()
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(text, encoding="utf-8")
        SCHEMA.write_text(schema() + "\n", encoding="utf-8")
        return 0
    if PAGE.is_file() and PAGE.read_text(encoding="utf-8") == text:
        return 0
    print("docs/commands.md is not what the commands say: make commands", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
