"""Entry point of the command ``deploy``: check that no other package hides one of ours, before importing any.

It lives outside the packages because a package called ``deploy`` in a folder of ``PYTHONPATH`` is found before ours,
and nothing inside ours could then report it.
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
    """Return the command that installs an extra, a key of ``[project.optional-dependencies]``.

    The project is not on a package index: it is installed from its folder.
    """
    return f"pip install -e '.[{extra}]' in the folder of prune-deploy"


def main() -> NoReturn:
    """Run the command line and exit; with exit code 2 if another package hides one of ours."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # nothing to clean up yet: no traceback
    if stranger := _stranger():
        sys.stderr.write(f"deploy: {stranger}\n")
        raise SystemExit(_USAGE)
    from deploy.user_errors import guarded

    try:
        guarded(_command_line)
    finally:
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), signal.SIG_IGN)  # the exit code is already decided


def _command_line() -> None:
    # Imported inside the guard, so that an interrupt during the imports also prints one line.
    from deploy.cli import command_line

    command_line()


def _stranger() -> str:
    """Return one line saying which folder hides one of our packages; empty if none does."""
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
