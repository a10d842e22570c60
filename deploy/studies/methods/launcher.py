"""One job of a study on many processes (``python -m deploy.studies.methods.launcher PROCESSES STUDY JOB``).

It is torchrun with two differences: it dies with the process that started it, and its own processes die with it; and
its last word is why they failed. A job that is no training is done by one process.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from benchmarks.process.channel import die_with_parent
from deploy.studies.methods import child
from deploy.studies.methods.jobs import JOB, StudyJob

__all__ = ["main"]

_SHARED = ("dense", "recover")


def main(processes: str, root: str, folder: str) -> int:
    """Run the job's child so many times, together; once where the job is no training. Returns the exit code."""
    job = StudyJob.model_validate_json(Path(folder, JOB).read_text(encoding="utf-8"))
    if job.kind not in _SHARED:
        child.main(Path(root), Path(folder))
        return 0
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main as torchrun

    try:
        torchrun(["--standalone", "--nproc-per-node", processes, "-m", child.__name__, root, folder])
    except ChildFailedError as error:
        sys.stderr.write(f"{_told(error, processes)}\n")
        return 1
    return 0


def _told(error: Any, processes: str) -> str:
    rank, failure = error.get_first_failure()
    code = failure.exitcode
    how = f"exit code {code}" if code > 0 else signal.Signals(-code).name
    memory = " (out of memory?)" if code == -signal.SIGKILL else ""
    return f"process {rank + 1} of {processes} ended with {how}{memory}"


if __name__ == "__main__":
    parent = os.getppid()
    die_with_parent()
    sys.exit(main(*sys.argv[1:]) if os.getppid() == parent else 1)
