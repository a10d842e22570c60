"""Run one job of a study on several processes: ``python -m deploy.studies.methods.launcher PROCESSES STUDY JOB``.

It is torchrun with two differences: it dies with the process that started it, and its own processes with it; and its
last line says why they failed. A job that is not a training runs in one process.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main as torchrun

from benchmarks.process.child import exit_reason
from benchmarks.process.serving import end_with_parent
from deploy.studies.methods import child
from deploy.studies.methods.jobs import JOB, StudyJob

__all__ = ["main"]

_SHARED = ("dense", "recover")


def main(processes: str, root: str, folder: str) -> int:
    """Run the job in `processes` processes, or in one if it is not a training; return the exit code."""
    job = StudyJob.model_validate_json(Path(folder, JOB).read_text(encoding="utf-8"))
    if job.kind not in _SHARED:
        child.main(Path(root), Path(folder))
        return 0
    try:
        os.environ[child.SHARED] = str(os.getpid())
        torchrun(["--standalone", "--nproc-per-node", processes, "-m", child.__name__, root, folder])
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        sys.stderr.write(f"process {rank + 1} of {processes} {exit_reason(failure.exitcode)}\n")
        return 1
    return 0


if __name__ == "__main__":
    end_with_parent()
    sys.exit(main(*sys.argv[1:]))
