"""The command ``deploy``: parse, call, print, exit code. One short file a command."""

from __future__ import annotations

from typing import NoReturn

from deploy.cli.app import app
from deploy.user_errors import guarded

__all__ = ["main"]


def main() -> NoReturn:
    """Run the command line and exit."""
    guarded(app)
