"""The command ``deploy``, outside its packages: see that they are ours before any of them is imported.

A package called ``deploy`` in a folder of ``PYTHONPATH`` is found before ours, and nothing in ours could say so.
"""

from __future__ import annotations

import os
import signal
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

__all__ = ["how_to_install", "main"]

_PACKAGES = ("backends", "benchmarks", "deploy", "pruners")
_USAGE = 2


def how_to_install(extra: str) -> str:
    """Return the command that adds an optional part, a key of ``[project.optional-dependencies]``.

    The project is on no package index: what exists is its folder.
    """
    return f"pip install -e '.[{extra}]' in the folder of prune-deploy"


def main() -> NoReturn:
    """Run the command line and exit; with exit code 2 where another package hides one of ours."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # before there is anything to clear up: no traceback
    if stranger := _stranger():
        sys.stderr.write(f"deploy: {stranger}\n")
        raise SystemExit(_USAGE)
    from deploy.user_errors import guarded

    try:
        guarded(_command_line)
    finally:
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), signal.SIG_IGN)  # the exit code is known


def _command_line() -> None:
    # Inside the guard: an interrupt during the imports is one line too.
    from deploy.cli import command_line

    command_line()


def _stranger() -> str:
    """Return which folder hides one of our packages, in one line; empty where none does."""
    for name in _PACKAGES:
        ours = Path(__file__).resolve().parent / name
        spec = find_spec(name)
        origin = None if spec is None else spec.origin
        if origin is None:
            return f"the package {name!r} is missing from {ours.parent}; install prune-deploy again"
        folder = Path(origin).resolve().parent if Path(origin).name == "__init__.py" else Path(origin).resolve()
        if folder != ours:
            named = {Path(entry).resolve() for entry in os.getenv("PYTHONPATH", "").split(os.pathsep) if entry}
            cure = "take it out of PYTHONPATH" if folder.parent in named else "start `deploy` in another folder"
            return f"{folder} hides the package {name!r} of prune-deploy: {folder.parent} comes first; {cure}"
    return ""
