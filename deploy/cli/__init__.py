"""The command ``deploy``: parse, call, print, exit code. One short file per command."""

from __future__ import annotations

import sys
from pathlib import Path

from deploy.cli.app import app
from deploy.files.scratch import scratch_folder

__all__ = ["command_line"]


def command_line() -> None:
    """Run the command that the arguments name; `deploy.user_errors.guarded` reports errors."""
    name = Path(sys.argv[0]).stem
    with scratch_folder():
        app(prog_name=name if name == "prune-deploy" else "deploy")
