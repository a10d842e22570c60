"""Run the jobs of a study on the workers of a Dask cluster; Dask is imported only if it is used.

Dask and not Ray: a job is a process that reads and writes one folder, and only needs a place to run. Dask's scheduler
is a small pure-Python package that installs wherever this project does, small boards included. Ray's strength, placing
the ranks of one training over many machines, is the task of a training launcher.

A worker communicates with the study only through the shared folder: a heartbeat file that changes while the work is
wanted, and a stop file.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from deploy.errors import DeployError, ExtraMissingError
from deploy.studies.engine.schedule import RunningJob
from deploy.studies.methods.executor import child_environment, start_job
from prune_deploy import how_to_install

__all__ = ["DaskCluster", "run_on_worker"]

_BEAT = ".beat"
_STOP = "stop"
_BEAT_S = 2.0
_SILENCE_S = 60.0
_POLL_S = 0.2
_CONNECT_S = 20


class DaskCluster:
    """Executor on a Dask cluster: every thread of every worker takes one job.

    Parameters
    ----------
    address : str
        Address of the scheduler, as ``tcp://host:8786``. Its workers need this package, the data, and the study's
        folder under the same path as here.
    root : Path
        The study's folder.
    processes : int
        Processes that share the training of a job, on the GPUs that its worker sees.

    Raises
    ------
    ExtraMissingError
        ``distributed`` is not installed.
    DeployError
        No scheduler answers, or it has no workers.
    """

    remote = True

    def __init__(self, address: str, root: Path, *, processes: int = 1) -> None:
        try:
            distributed: Any = import_module("distributed")
        except ImportError as error:
            raise ExtraMissingError(f"--cluster needs distributed: {how_to_install('cluster')}") from error
        try:
            self._client: Any = distributed.Client(address, timeout=_CONNECT_S)
        except (OSError, ValueError, TimeoutError) as error:
            raise DeployError(f"no Dask scheduler answers at {address}: {error}") from error
        per_worker = dict(self._client.nthreads())
        if not per_worker:
            raise DeployError(f"the Dask scheduler at {address} has no workers; start some with: dask worker {address}")
        self.slots = sum(per_worker.values())
        self._per_worker = max(per_worker.values())
        self.processes = processes
        root.mkdir(parents=True, exist_ok=True)
        threading.Thread(target=_beat, args=(root / _BEAT,), daemon=True).start()

    def start(self, root: Path, folder: Path) -> RunningJob:
        """Submit the job to a worker."""
        (folder / _STOP).unlink(missing_ok=True)
        future = self._client.submit(
            run_on_worker, str(root), str(folder), self._per_worker, self.processes, pure=False
        )
        return _Remote(future, folder)


class _Remote:
    def __init__(self, future: Any, folder: Path) -> None:
        self._future = future
        self._folder = folder

    def poll(self) -> str | None:
        if not self._future.done():
            return None
        if self._future.status != "finished":
            return f"the cluster gave it up: {self._future.exception()!r}"
        reason: str = self._future.result()
        return reason

    def close(self) -> None:
        if not self._future.done():
            (self._folder / _STOP).touch()
            self._future.cancel()


def run_on_worker(root: str, folder: str, slots: int, processes: int = 1) -> str:
    """Run one job in its own process on this worker; see `RunningJob.poll` for the result.

    Parameters
    ----------
    root, folder : str
        Folders of the study, and of the job in it.
    slots : int
        Jobs that the worker runs at the same time.
    processes : int
        Processes that share the job's training.
    """
    if not Path(folder, "job.json").is_file():
        return f"its worker does not see {folder}: the study's folder has to be on a disk that all machines share"
    child = start_job(Path(root), Path(folder), child_environment(slots, processes), processes=processes)
    beat, heard = b"", time.monotonic()
    try:
        while (ended := child.poll()) is None:
            time.sleep(_POLL_S)
            with suppress(OSError):
                if (now := Path(root, _BEAT).read_bytes()) != beat:
                    beat, heard = now, time.monotonic()
            if Path(folder, _STOP).exists() or time.monotonic() - heard > _SILENCE_S:
                return "the study was ended"
        return ended
    finally:
        child.close()


def _beat(path: Path) -> None:
    count = 0
    while True:
        with suppress(OSError):
            path.write_text(str(count))
        count += 1
        time.sleep(_BEAT_S)
