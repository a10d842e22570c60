"""Rebuild a pruned network in a fresh process from original code, plan and weights."""

from __future__ import annotations

import warnings
from pathlib import Path

from backends.base import Array
from benchmarks.process.channel import Message
from benchmarks.process.child import Conversation
from benchmarks.process.serving import serve_parent
from deploy.studies.coverage.models import fresh, inputs_of
from deploy.studies.coverage.rows import CoverageSettings, ListedNetwork
from pruners.forms.compact import load
from pruners.modules.calls import NetworkCall
from pruners.modules.outputs import outputs_of
from pruners.plan import PruningPlan

__all__ = ["reloaded_outputs"]

_TIMEOUT_S = 3600.0
"""Upper bound; the row's own time limit ends it earlier."""


def reloaded_outputs(entry: ListedNetwork, settings: CoverageSettings, plan: Path, weights: Path) -> list[Array]:
    """Rebuild a network of the list in a fresh process, and run it on the row's inputs.

    Returns
    -------
    list of ndarray
        Its outputs, float64.

    Raises
    ------
    WorkerError
        An error was raised there.
    """
    question: Message = {
        "entry": entry.model_dump_json(),
        "settings": settings.model_dump_json(),
        "plan": str(plan),
        "weights": str(weights),
    }
    with Conversation(["-m", __name__], who=f"{entry.name} in a fresh process", timeout_s=_TIMEOUT_S) as process:
        _, arrays = process.ask("reload", question)
    return list(arrays.values())


def _reload(question: Message, _: dict[str, Array]) -> tuple[Message, dict[str, Array]]:
    entry = ListedNetwork.model_validate_json(question["entry"])
    settings = CoverageSettings.model_validate_json(question["settings"])
    # Different initial weights: everything that matters has to come from the file.
    network = fresh(entry, seed=settings.seed + 3)
    compact = load(network, PruningPlan.load(Path(question["plan"])), Path(question["weights"]))
    outputs = outputs_of(compact, NetworkCall(inputs_of(entry, seed=settings.seed + 2)))
    return {}, {str(number): output.numpy() for number, output in enumerate(outputs)}


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    serve_parent({"reload": _reload})
