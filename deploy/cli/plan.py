"""``deploy plan``: read, draw, compare, apply and carry over pruning plans."""

from __future__ import annotations

import typer

__all__ = ["plan"]

plan = typer.Typer(
    help="Read, draw, compare, apply and carry over pruning plans.", no_args_is_help=True, rich_markup_mode=None
)


@plan.callback()
def _group() -> None:
    pass
