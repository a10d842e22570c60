"""A group of options is declared once, and a command gets it as one object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from deploy.cli.options import spread


@dataclass(frozen=True, kw_only=True)
class Base:
    width: Annotated[int, typer.Option(help="Of it.")] = 3


@dataclass(frozen=True, kw_only=True)
class Size(Base):
    name: Annotated[list[str] | None, typer.Option("--called", help="Of it.")] = None


def draw(
    file: Annotated[str, typer.Argument()],
    *,
    size: Size,
    fast: Annotated[bool, typer.Option("--fast")] = False,
) -> None:
    """Draw it."""
    typer.echo(f"{file} {size} {fast}")


@pytest.fixture
def app():
    made = typer.Typer(rich_markup_mode=None)
    made.command()(spread(draw))
    return made


def test_a_group_stands_for_its_options_where_it_stands(app):
    command = typer.main.get_command(app)
    assert [one.name for one in command.params][:4] == ["file", "width", "name", "fast"]
    assert command.help == "Draw it."


def test_a_command_gets_its_group_as_one_object(app):
    given = CliRunner().invoke(app, ["x", "--called", "a", "--called", "b", "--fast", "--width", "5"])
    assert given.output.strip() == f"x {Size(width=5, name=['a', 'b'])} True"
    assert CliRunner().invoke(app, ["x"]).output.strip() == f"x {Size()} False"
    assert CliRunner().invoke(app, ["x", "--width", "much"]).exit_code == 2
