"""One job of a study on many processes: ``python -m deploy.method_study.launcher PROCESSES STUDY_FOLDER JOB_FOLDER``.

It is torchrun with one difference: it dies with the process that started it, and its own processes die with it. A job
that prunes is done by one process: what a method does between its trainings is not shared.
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.wire import die_with_parent
from deploy.method_study import child
from deploy.method_study.jobs import Job

__all__ = ["main"]

_SHARED = ("dense", "recover")


def main(processes: str, root: str, folder: str) -> None:
    """Run the job's child so many times, together; once where the job is no training."""
    job = Job.model_validate_json(Path(folder, child.JOB).read_text(encoding="utf-8"))
    if job.kind not in _SHARED:
        child.main(Path(root), Path(folder))
        return
    from torch.distributed.run import main as torchrun

    torchrun(["--standalone", "--nproc-per-node", processes, "-m", child.__name__, root, folder])


if __name__ == "__main__":
    die_with_parent()
    main(*sys.argv[1:])
