"""Run the torch half of a command in its own process, so its memory and threads are gone before measuring.

Started as ``python -m deploy.run.child MODULE:FUNCTION ARGUMENT...``; a mistake of the user is one line on standard
error, as in the command itself.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

from benchmarks.process.child import Child, exit_reason, sleeping_environment
from benchmarks.process.serving import end_with_parent
from benchmarks.process.waiting import hushed, quiet
from deploy.errors import DeployError
from deploy.files.advice import RECIPE, advised
from deploy.run.progress import QUIET, Progress
from deploy.user_errors import guarded

__all__ = ["ChildFailedError", "call_in_child", "main", "program_of"]


class ChildFailedError(DeployError):
    """The child ended without finishing; it has printed why."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(f"the training process ended with exit code {exit_code}")
        self.exit_code = exit_code


def program_of(function: str, *arguments: str | Path) -> list[str]:
    """Return the arguments of ``python`` that call `function`, given as ``"module:name"``, with text arguments."""
    return ["-m", "deploy.run.child", function, *map(str, arguments)]


def call_in_child(function: str, *arguments: str | Path) -> None:
    """Call a function in a child that shares the terminal.

    Raises
    ------
    ChildFailedError
        It failed; its own message is already on standard error.
    DeployError
        It was killed.
    """
    # OpenMP threads that spin while waiting delay the ones they wait for if another process wants a core: training
    # beside one busy core took 200 ms per step on two cores, and 88 ms with threads that sleep.
    variables = sleeping_environment()
    if quiet():
        variables[QUIET] = "1"
    # The child reports its own progress.
    with hushed(), Child(program_of(function, *arguments), environment=variables, terminal=True) as child:
        code = child.wait()
    if code < 0:
        raise DeployError(
            f"the training process {exit_reason(code)}; the same command continues from the last checkpoint"
        )
    if code:
        raise ChildFailedError(code)


def main(function: str, *arguments: str) -> None:
    """Call the function that the command line names."""
    module, _, name = function.partition(":")

    # The import is inside the guard, so that an interrupt while torch is imported prints one line too.
    def call() -> None:
        with advised(RECIPE):
            with Progress().steps("load the libraries"):
                called = getattr(import_module(module), name)
            called(*arguments)

    guarded(call, quiet=True)


if __name__ == "__main__":
    end_with_parent()
    main(*sys.argv[1:])
