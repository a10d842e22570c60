"""ONNX's own test models: each that a runtime runs goes the whole way to a number, in this process."""

from __future__ import annotations

import contextlib
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from backends.base import PRECISIONS, CompileOptions
from backends.errors import ModelLoadError, OptionError, RunError
from backends.precision import floats_of
from backends.registry import create
from benchmarks.answers.reference import Reference, check, coarsest, require_agreement
from benchmarks.answers.reference_process import run_unoptimised
from benchmarks.answers.rounding import rounding_of
from benchmarks.errors import InputError, WrongAnswersError
from benchmarks.subject.cost import cost
from benchmarks.subject.given import GivenInputs, call_inputs
from benchmarks.subject.inputs import model_specs, resolve_sizes
from benchmarks.subject.random_nodes import random_nodes

MOST_OTHER_ANSWERS = {"ort": 0, "openvino": 40}
"""OpenVINO saturates sums of bytes, say, where ONNX wraps around."""
DATA = Path(onnx.__file__).parent / "backend" / "test" / "data"


@dataclass
class Case:
    name: str
    model: onnx.ModelProto
    values: dict


def cases():
    """Yield ONNX's models of single operators, then those that it keeps as files, with their own inputs."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for case in collect_testcases(None):
            if case.model is not None and case.data_sets:
                names = [one.name for one in case.model.graph.input]
                yield Case(case.name, case.model, dict(zip(names, case.data_sets[0][0], strict=False)))
    for path in sorted([*DATA.glob("*/*/model.onnx"), *DATA.glob("light/*.onnx")]):
        model = onnx.load(path)
        held = {tensor.name for tensor in model.graph.initializer}
        infos = [info for info in model.graph.input if info.name not in held]
        files = [path.parent / "test_data_set_0" / f"input_{index}.pb" for index in range(len(infos))]
        values = {info.name: stored(file, info) for info, file in zip(infos, files, strict=True) if file.is_file()}
        yield Case(f"{path.parent.parent.name}/{path.parent.name}/{path.stem}", model, values)


def stored(file, info):
    kinds = {"sequence_type": (onnx.SequenceProto, numpy_helper.to_list), "optional_type": (onnx.OptionalProto, None)}
    proto, read = kinds.get(info.type.WhichOneof("value"), (onnx.TensorProto, numpy_helper.to_array))
    return (read or numpy_helper.to_optional)(proto.FromString(file.read_bytes()))


def arrays(case):
    """Yield the case's own inputs as ``--inputs`` takes them."""
    for name, value in case.values.items():
        if isinstance(value, list):
            yield from ((f"{name}[{index}]", np.asarray(element)) for index, element in enumerate(value))
        elif value is not None:
            yield name, np.asarray(value)


def runs_ort(path, values):
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    sizes = {one.name: [size if isinstance(size, int) else 1 for size in one.shape] for one in session.get_inputs()}
    session.run(None, {name: values[name] if name in values else np.ones(sizes[name], np.float32) for name in sizes})


def runs_openvino(path, values):
    import openvino

    compiled = openvino.Core().compile_model(str(path), "CPU")
    compiled({port.get_any_name(): values.get(port.get_any_name()) for port in compiled.inputs})


def number(case, path, backend, precision, *, own):
    """Go the way of ``deploy bench``: on made-up inputs, or on the case's own as with ``--inputs``."""
    specs = model_specs(path)
    data = dict(arrays(case))
    given = GivenInputs(arrays=data if own else {})
    sizes = resolve_sizes(specs, shapes={name: array.shape for name, array in data.items()})
    feeds = call_inputs(path, sizes, given=given)[0]
    assert cost(path, shapes=sizes.shapes).macs >= 0
    backend.require_precision(path, precision)
    answers = None
    # Where it does not take the model, or not what a person gives it, another one answers.
    with contextlib.suppress(ModelLoadError, *([RunError] if own else [])):
        answers = run_unoptimised(path, feeds)
    compiled = backend.compile(path, CompileOptions(precision=precision))
    if answers is None or random_nodes(path):
        compiled.run(feeds)
        return
    wanted = Reference(inputs=feeds, outputs=answers, source="")
    judged_in = coarsest({precision, *floats_of(case.model.graph), *(["int8"] if precision == "int8" else [])})
    try:
        require_agreement(check(compiled.run, wanted, sizes, precision=judged_in))
    except WrongAnswersError:
        rounding = rounding_of(path, feeds, precision=judged_in)
        require_agreement(check(compiled.run, wanted, sizes, precision=judged_in, rounding=rounding))


def tried(case, path, backend):
    """Return what a person has to say that the model gives a number: nothing, or one thing."""
    for precision in PRECISIONS:
        at_once = precision == PRECISIONS[0]
        try:
            try:
                number(case, path, backend, precision, own=False)
            except (RunError, InputError):
                number(case, path, backend, precision, own=True)
                return "with --inputs" if at_once else f"with --inputs --precision {precision}"
        except OptionError:
            continue
        return "at once" if at_once else f"with --precision {precision}"
    raise AssertionError(f"no precision suits {case.name}")


@pytest.mark.slow
@pytest.mark.timeout(2400)
@pytest.mark.parametrize(("name", "runs"), [("ort", runs_ort), ("openvino", runs_openvino)])
def test_every_model_that_a_runtime_runs_gives_a_number_in_two_tries(name, runs, tmp_path):
    outcomes: Counter[str] = Counter()
    failures, others = [], []
    backend = create(name)
    path = tmp_path / "model.onnx"
    for case in cases():
        path.write_bytes(case.model.SerializeToString())
        try:
            runs(path, case.values)
        except Exception:  # noqa: BLE001  # it has no class of its own for half of them
            continue
        try:
            outcomes[tried(case, path, backend)] += 1
        except WrongAnswersError:
            outcomes["other answers"] += 1  # as said, with exit code 5
            others.append(case.name)
        except Exception as error:  # noqa: BLE001  # all of them are told at the end
            failures.append(f"{case.name}: {type(error).__name__}: {error}")
    print(f"{name}: {dict(outcomes)}; other answers: {', '.join(others)}")  # noqa: T201  # pytest -rP shows it
    assert outcomes["at once"] > 0.9 * outcomes.total()
    assert outcomes["other answers"] <= MOST_OTHER_ANSWERS[name]
    assert not failures, "\n".join([str(dict(outcomes)), *failures])
