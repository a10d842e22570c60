"""The process that prepares a run (``python -m deploy.run.child RECIPE.json FOLDER``); see `deploy.run.pipeline`."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.process.serving import end_with_parent
from deploy.user_errors import guarded

__all__ = ["main"]


def main() -> None:
    """Prepare the run that the command line names."""

    def work() -> None:
        # Inside the guard: an interrupt while torch is imported is one line too.
        from deploy.run.prepare import prepare_recipe

        prepare_recipe(*map(Path, sys.argv[1:]))

    guarded(work)


if __name__ == "__main__":
    end_with_parent()
    main()
