"""One job of a study, in a process of its own: ``python -m deploy.method_study.child STUDY_FOLDER JOB_FOLDER``.

Its result is written as a whole, and whatever a method or a network raises is a result too. Where it can not write one
(killed, out of memory), the parent does.
"""

from __future__ import annotations

import sys
import time
import traceback
import warnings
from pathlib import Path

from benchmarks.wire import die_with_parent
from deploy.method_study.jobs import Job
from deploy.method_study.results import JobResult, write_result
from deploy.stages import Stage

__all__ = ["JOB", "main"]

JOB = "job.json"
_REASON_LIMIT = 400


def main(root: Path, folder: Path) -> None:
    """Do the job that lies in `folder`."""
    from backends.errors import BackendError
    from deploy.errors import DeployError
    from deploy.method_study.work import JobWork
    from deploy.progress import Progress
    from deploy.sources.data import load
    from pruners.errors import PruneError
    from pruners.program import first_line

    started = time.monotonic()
    job = Job.model_validate_json((folder / JOB).read_text(encoding="utf-8"))
    reason = ""
    try:
        work = JobWork(job, root, load(job.recipe.data), Progress())
        result = work.perform()
    except (PruneError, DeployError, BackendError) as error:
        reason = " ".join(str(error).split())
    except Exception as error:  # noqa: BLE001 - whatever a method, a network or a library raises is its row
        traceback.print_exc()
        reason = first_line(error)
    if reason:
        result = JobResult(kind=job.kind, title=job.title, key=job.key, reason=reason[:_REASON_LIMIT])
    write_result(folder, result.model_copy(update={"seconds": round(time.monotonic() - started, 2)}))
    if not reason:
        Stage(folder, job.key).finish()
        work.clean()


if __name__ == "__main__":
    die_with_parent()
    warnings.simplefilter("ignore")
    main(Path(sys.argv[1]), Path(sys.argv[2]))
