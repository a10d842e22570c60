"""The command ``deploy``: parse, call, print, exit code. One short file a command."""

from __future__ import annotations

from deploy.cli.app import app
from deploy.files.scratch import scratch_folder

__all__ = ["command_line"]


def command_line() -> None:
    """Run the command that the arguments name; `deploy.user_errors.guarded` says what went wrong."""
    with scratch_folder():
        app()
