"""Run one job of a study in its own process: ``python -m deploy.studies.methods.child STUDY_FOLDER JOB_FOLDER``.

Its result is written atomically, and an error of a method or a network is a result too. If it cannot write one (killed,
out of memory), the parent does.

If a launcher starts several processes for one job, all do the same work and share its trainings. The work of the first
is kept; the others use temporary folders.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
import traceback
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

import torch.distributed

from benchmarks.process.serving import die_with_parent, end_with_parent
from deploy.files.printable import printable_streams
from deploy.run.progress import Progress
from deploy.run.stages import Stage
from deploy.run.steps import SharedTrainingDone
from deploy.sources.datasets.data import load
from deploy.studies.engine.reasons import REFUSALS, reason_of
from deploy.studies.methods.gpus import require_gpus
from deploy.studies.methods.jobs import JOB, StudyJob
from deploy.studies.methods.results import RESULT, JobResult, write_result
from deploy.studies.methods.work import perform

__all__ = ["SHARED", "main"]

SHARED = "PRUNE_DEPLOY_SHARED_JOB"
"""Environment variable in which the launcher gives its process ID to the processes of a shared job."""

_GRACE_S = 10.0
_POLL_S = 0.1


def main(root: Path, folder: Path) -> None:
    """Run the job in `folder`; under a launcher, exit with code 1 if it failed."""
    job = StudyJob.model_validate_json((folder / JOB).read_text(encoding="utf-8"))
    first, alone = os.environ.get("RANK", "0") == "0", os.environ.get("WORLD_SIZE", "1") == "1"
    well = _first(job, root, folder) if first else _another(job, root, folder)
    if not (well or alone):
        sys.exit(1)  # so that the launcher kills the others, which may be waiting for this one


def _first(job: StudyJob, root: Path, folder: Path) -> bool:
    started = time.monotonic()
    reason = ""
    try:
        require_gpus()
        result = perform(job, root, load(job.recipe.data), Progress())
    except Exception as error:  # noqa: BLE001 - any error of a method, a network or a library becomes its row
        if not isinstance(error, REFUSALS):
            traceback.print_exc()
        reason = reason_of(error)
        result = JobResult(kind=job.kind, title=job.title, key=job.key, reason=reason)
    write_result(folder, result.model_copy(update={"seconds": round(time.monotonic() - started, 2)}))
    if not reason:
        Stage(folder, job.key).finish()
        for checkpoints in list(folder.rglob("checkpoints")):
            shutil.rmtree(checkpoints)
    return not reason


def _another(job: StudyJob, root: Path, folder: Path) -> bool:
    with TemporaryDirectory() as own:
        try:
            perform(job, root, load(job.recipe.data), Progress(), own=Path(own))
        except SharedTrainingDone:
            return True
        except Exception:  # noqa: BLE001 - it is in the log, and the launcher reports it if the first process does not
            traceback.print_exc()
    # If all of them fail, let the first report the error rather than the launcher.
    ends = time.monotonic() + _GRACE_S
    while not (folder / RESULT).exists() and time.monotonic() < ends:
        time.sleep(_POLL_S)
    return False


if __name__ == "__main__":
    if SHARED in os.environ:  # started by torchrun, so standard input is not the parent's pipe
        die_with_parent(int(os.environ[SHARED]))
    else:
        end_with_parent()
    warnings.simplefilter("ignore")
    with printable_streams():  # for its log
        main(Path(sys.argv[1]), Path(sys.argv[2]))
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)  # DistributedDataParallel leaves gloo threads behind, which may abort the interpreter at exit
