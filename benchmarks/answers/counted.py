"""Cost of a model, from its file and, for what depends on data, from a watched run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from backends.base import Array
from benchmarks.answers import reference_process
from benchmarks.answers.reference import Reference, feeds_of
from benchmarks.errors import InputError, WorkerError
from benchmarks.process.child import Conversation
from benchmarks.records.measurement import Cost
from benchmarks.subject.cost import cost
from benchmarks.subject.executions import Execution
from benchmarks.subject.given import GivenInputs, call_inputs
from benchmarks.subject.inputs import model_specs, resolve_sizes
from benchmarks.subject.mac_formulas import Shape

__all__ = ["counted"]


def counted(
    model: Path,
    *,
    shapes: Mapping[str, Shape] | None = None,
    feeds: Mapping[str, Array] | None = None,
    reference: Reference | None = None,
    given: GivenInputs | None = None,
    seed: int = 0,
    timeout_s: float = 60.0,
) -> Cost:
    """Count the cost of an ONNX file for one example; run it to resolve what the file leaves open.

    Parameters
    ----------
    model : Path
        The file.
    shapes : Mapping of str to tuple of int, optional
        Full shapes of inputs with free dimensions other than the batch.
    feeds : Mapping of str to ndarray, optional
        Inputs of that run; default: the first examples of `reference`, else generated from `seed`.
    reference : Reference, optional
        Available examples.
    given : GivenInputs, optional
        Inputs given by the user instead of generated; `reference` is then not used.
    timeout_s : float, default=60.0
        Seconds after which the run is given up.

    Returns
    -------
    Cost
        What neither the file nor a run could tell is named in ``unknown``.

    Raises
    ------
    InputError
        A free dimension has no size.
    ModelLoadError
        The file is missing or broken.
    """
    specs = model_specs(model)
    given = given or GivenInputs()
    reference = None if given else reference
    whole = {
        **given.shapes(specs.inputs, shapes),
        **{name: array.shape for name, array in (feeds or {}).items()},
    }
    examples = {name: array.shape for name, array in (reference.inputs if reference else {}).items()}
    sizes = resolve_sizes(specs, shapes=whole, examples=examples)
    found = cost(model, shapes=sizes.shapes)
    if not found.unknown:
        return found
    try:
        if feeds is None:
            feeds = (
                feeds_of(reference, sizes)
                if reference is not None
                else call_inputs(model, sizes, seed=seed, given=given)[0]
            )
        with Conversation(["-m", reference_process.__name__], who="ONNX Runtime", timeout_s=timeout_s) as process:
            answer, _ = process.ask("watch", {"model": str(model.resolve())}, feeds)
    except (InputError, WorkerError):
        return found  # it names what is unknown
    executions = {path: [Execution(**one) for one in ran] for path, ran in answer["executions"].items()}
    return cost(model, shapes=sizes.shapes, executions=executions)
