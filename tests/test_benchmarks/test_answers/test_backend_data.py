"""ONNX's own test models: each that ONNX Runtime runs goes the whole way to a number, in this process."""

from __future__ import annotations

import warnings
from collections import Counter

import numpy as np
import onnxruntime
import pytest

from backends.base import CompileOptions
from backends.errors import ModelLoadError, OptionError, RunError
from backends.ort import OrtBackend
from benchmarks.answers.reference import Reference, check, require_agreement
from benchmarks.answers.reference_process import run_unoptimised
from benchmarks.errors import InputError
from benchmarks.subject.cost import cost
from benchmarks.subject.given import GivenInputs, call_inputs
from benchmarks.subject.inputs import model_specs, resolve_sizes
from benchmarks.subject.random_nodes import random_nodes

ONCE = {"precision": 30, "not a tensor": 30}
"""Kinds that are refused in one line, and how many there may be: other arithmetic than is measured, sequences."""


def cases():
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [case for case in collect_testcases(None) if case.model is not None and case.data_sets]


def runs(case, path):
    """Return whether ONNX Runtime runs the case on its own data."""
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
        session.run(None, dict(zip([one.name for one in case.model.graph.input], case.data_sets[0][0], strict=False)))
    except Exception:  # noqa: BLE001  # it has no class of its own for half of them
        return False
    return True


def number(case, path, *, own):
    """Go the way of `deploy bench`: on made-up inputs, or on the case's own as with ``--inputs``."""
    specs = model_specs(path)
    data = dict(zip([one.name for one in case.model.graph.input], case.data_sets[0][0], strict=False))
    given = GivenInputs(arrays={name: np.asarray(array) for name, array in data.items()} if own else {})
    sizes = resolve_sizes(specs, shapes=given.shapes or {spec.name: np.shape(data[spec.name]) for spec in specs.inputs})
    feeds = call_inputs(path, specs, sizes, given=given)
    backend, counted = OrtBackend(), cost(path, shapes=sizes.shapes)
    assert counted.macs >= 0
    answers = run_unoptimised(path, feeds)
    for precision in ("fp32", "fp16", "bf16", "int8"):
        try:
            backend.require_precision(path, precision)
        except OptionError:
            continue
        compiled = backend.compile(path, CompileOptions(precision=precision))
        given_answers = Reference(inputs=feeds, outputs=answers, source="")
        if not random_nodes(path):
            require_agreement(check(compiled.run, given_answers, sizes, precision=precision))
        return
    raise OptionError("precision")


@pytest.mark.slow
def test_every_model_that_onnxruntime_runs_gives_a_number_in_two_tries(tmp_path, record_property):
    """On made-up inputs; where the model refuses them, on those given."""
    outcomes: Counter[str] = Counter()
    path = tmp_path / "model.onnx"
    for case in cases():
        path.write_bytes(case.model.SerializeToString())
        if not runs(case, path):
            continue
        try:
            try:
                number(case, path, own=False)
                outcomes["at once"] += 1
            except (RunError, InputError):
                number(case, path, own=True)
                outcomes["with inputs"] += 1
        except OptionError:
            outcomes["precision"] += 1
        except ModelLoadError as error:
            assert "is not a tensor of numbers or text" in str(error), case.name
            outcomes["not a tensor"] += 1
        except Exception as error:
            raise AssertionError(f"{case.name}: {error}") from error
    record_property("outcomes", dict(outcomes))
    assert outcomes["at once"] > 1000
    assert all(outcomes[kind] <= most for kind, most in ONCE.items()), outcomes
    assert set(outcomes) <= {"at once", "with inputs", *ONCE}
