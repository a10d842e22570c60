"""One job of a study, in a process of its own: ``python -m deploy.method_study.child STUDY_FOLDER JOB_FOLDER``.

Its result is written as a whole, and whatever a method or a network raises is a result too. Where it can not write one
(killed, out of memory), the parent does.

Where a launcher started several for one job, all do the same work and share the trainings in it. The first one's is
kept; the others work in folders that go when they end.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.wire import die_with_parent
from deploy.method_study.jobs import Job
from deploy.method_study.results import RESULT, JobResult, write_result
from deploy.stages import Stage

__all__ = ["JOB", "main"]

JOB = "job.json"
_REASON_LIMIT = 400
_GRACE_S = 10.0
_POLL_S = 0.1


def main(root: Path, folder: Path) -> None:
    """Do the job that lies in `folder`."""
    job = Job.model_validate_json((folder / JOB).read_text(encoding="utf-8"))
    if int(os.environ.get("RANK", "0")) == 0:
        _first(job, root, folder)
    else:
        _another(job, root, folder)


def _first(job: Job, root: Path, folder: Path) -> None:
    from backends.errors import BackendError
    from deploy.errors import DeployError
    from deploy.method_study.work import JobWork
    from deploy.progress import Progress
    from deploy.sources.data import load
    from pruners.errors import PruneError
    from pruners.program import first_line

    started = time.monotonic()
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


def _another(job: Job, root: Path, folder: Path) -> None:
    from deploy.method_study.work import JobWork
    from deploy.progress import Progress
    from deploy.sources.data import load

    with TemporaryDirectory(prefix="prune-deploy-") as own:
        try:
            JobWork(job, root, load(job.recipe.data), Progress(), own=Path(own)).perform()
        except Exception:  # what is wrong for all, the first one tells better than a launcher
            ends = time.monotonic() + _GRACE_S
            while not (folder / RESULT).exists():
                if time.monotonic() > ends:
                    raise
                time.sleep(_POLL_S)


if __name__ == "__main__":
    die_with_parent()
    warnings.simplefilter("ignore")
    main(Path(sys.argv[1]), Path(sys.argv[2]))
