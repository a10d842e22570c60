"""Checkpoints of methods that remove in steps, so that a killed run resumes.

The network is saved like every compact one, as plan and weights, without a pickle. Random states are not saved:
streams of batches skip to where they were. A resumed run ends in the same weights bit for bit if the n-th batch of a
stream is the same each time (`pruners.recover.batches.EndlessBatches`), and the task's ``train`` draws nothing else.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

from pruners.distributed import is_first
from pruners.errors import MethodError, PlanError
from pruners.forms.compact import load, save_weights
from pruners.plan import PruningPlan
from pruners.task import PruningTask, Removals, Stream

__all__ = ["RemovalFolder"]

_PLAN, _WEIGHTS, _REST = "plan.json", "weights.safetensors", "rest.json"
_DIGITS = 6


class RemovalFolder:
    """Saves removals in a folder; implements `Keeper`.

    Parameters
    ----------
    folder : Path
        Created when needed. Under ``torch.distributed`` process 0 writes it and all read it.
    streams : Mapping of str to Stream
        Where the task's ``train`` takes its batches from: they resume at their positions, too.
    every_s : float
        Minimum number of seconds between two saves: a network may be large, and a step short.
    """

    def __init__(self, folder: Path, streams: Mapping[str, Stream] | None = None, *, every_s: float = 0.0) -> None:
        self.folder = folder
        self._streams = dict(streams or {})
        self._every_s = every_s
        self._kept_at = time.monotonic()

    def last(self, key: str, task: PruningTask) -> Removals | None:
        """Return the last removals saved for this key, or None.

        Raises
        ------
        MethodError
            The saved state cannot be read, or belongs to another pruning.
        """
        if not (kept := self._kept()):
            return None
        folder = kept[-1]
        try:
            rest = json.loads((folder / _REST).read_text(encoding="utf-8"))
            own_key, place, drawn = rest["key"], rest["place"], rest["drawn"]
            history, places = tuple(rest["history"]), {name: rest["streams"][name] for name in self._streams}
            if own_key == key:
                plan = PruningPlan.load(folder / _PLAN)
                model = load(task.model, plan, folder / _WEIGHTS, form=task.constraints.form)
        except (OSError, ValueError, KeyError, TypeError, PlanError) as error:
            raise MethodError(f"{folder} is broken ({error}); delete {self.folder} to start over") from error
        if own_key != key:
            raise MethodError(
                f"{folder} is of another pruning (method, settings, network, target or seed); delete {self.folder} to "
                "start over"
            )
        for name, stream in self._streams.items():
            stream.skip_to(places[name])
        return Removals(place=place, plan=plan, model=model, history=history, drawn=drawn)

    def keep(self, key: str, removals: Removals) -> None:
        """Save these removals in place of earlier ones, which a kill meanwhile leaves intact."""
        now = time.monotonic()
        if not is_first() or now - self._kept_at < self._every_s:
            return
        self._kept_at = now
        earlier = self._kept()
        folder = self.folder / str(len(removals.history)).zfill(_DIGITS)
        part = folder.with_name(f".{folder.name}.part")
        for left in (part, folder):
            shutil.rmtree(left, ignore_errors=True)
        part.mkdir(parents=True)
        removals.plan.save(part / _PLAN)
        save_weights(removals.model, part / _WEIGHTS)
        rest = {
            "key": key,
            "place": removals.place,
            "drawn": removals.drawn,
            "streams": {name: stream.drawn for name, stream in self._streams.items()},
            "history": list(removals.history),
        }
        (part / _REST).write_text(json.dumps(rest, indent=1) + "\n", encoding="utf-8")
        part.replace(folder)
        for old in earlier:
            if old != folder:
                shutil.rmtree(old)

    def _kept(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("[0-9]" * _DIGITS) if path.is_dir())
