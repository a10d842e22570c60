"""The two fixtures: measure in a separate process, and turn its answer into an assertion."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Unpack

import pytest

from prune_deploy_pytest import asking
from prune_deploy_pytest.options import (
    POLICIES,
    CompareOptions,
    File,
    MeasureOptions,
    chosen,
    marked,
    results_folder,
)
from prune_deploy_pytest.records import ComparedModels, MeasuredModel, ModelSpeedWarning, compared, measured
from prune_deploy_pytest.rows import kept_name, rows_of_test
from prune_deploy_pytest.session import ANSWERS, recorder

__all__ = ["DeployCompare", "DeployMeasure"]


class _Answered(NamedTuple):
    """The answer of the measuring process, with the options in effect and the results file."""

    answer: dict[str, Any]
    options: dict[str, Any]
    results: Path


class _Asking:
    """Common base of both fixtures; one instance for each test."""

    name = ""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._item: pytest.Item = request.node
        self._config = request.config
        self._folders: pytest.TempPathFactory = request.getfixturevalue("tmp_path_factory")
        self._before = len(self._item.stash.setdefault(ANSWERS, []))

    def __repr__(self) -> str:
        return self.name

    def _ask(self, models: Mapping[str, File], given: Mapping[str, Any], known: Collection[str]) -> _Answered:
        """Measure, and keep the results."""
        __tracebackhide__ = True
        if self._config.getoption("benchmark_disable", False) and not self._config.getoption("benchmark_enable", False):
            pytest.skip("not measured: --benchmark-disable")
        options = chosen(self.name, given, marked(self._item), known, self._config)
        for name, model in models.items():
            if not isinstance(model, (str, os.PathLike)):
                raise pytest.UsageError(f"{self.name}: {name} is the path of an ONNX file or bundle, not {model!r}")
        folder = self._folders.mktemp("deploy")
        results = folder / "results.json"
        arguments = {name: value for name, value in options.items() if name not in POLICIES}
        arguments["backends"] = [arguments.pop("backend")]
        arguments["accept_unfit"] = options["unfit"] == "accept"
        if "inputs" in arguments:
            arguments["inputs"] = _as_file(arguments["inputs"], folder)
        files = {name: os.fspath(model) for name, model in models.items()}
        answer = asking.ask({**files, **arguments, "output": str(results)}, folder, self._item)
        if "refused" in answer:
            if answer["kind"] == "BackendUnavailableError" and options["unavailable"] == "skip":
                pytest.skip(answer["refused"])
            raise pytest.UsageError(f"{self.name}: {answer['refused']}")
        return _Answered(answer, options, self._kept(results))

    def _kept(self, results: Path) -> Path:
        """Copy the results to the folder that keeps them, if one is set; return their path."""
        folder = results_folder(self._config)
        if folder is None:
            return results
        __tracebackhide__ = True
        kept = folder / kept_name(self._item, self._number())
        part = kept.with_suffix(".part")
        try:
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(results, part)
            part.replace(kept)
        except OSError as error:
            raise pytest.UsageError(f"deploy_results: cannot write {kept}: {error.strerror}") from None
        return kept

    def _number(self) -> int:
        """Return how many times this run of the test has measured, including the current one."""
        return len(self._item.stash[ANSWERS]) - self._before + 1

    def _settle(self, answered: _Answered) -> None:
        """Record the answer, and fail, skip or warn as it and the policies say."""
        __tracebackhide__ = True
        answer, options, results = answered
        number, outcome = self._number(), answer["outcome"]
        rows = rows_of_test(self._item, answer["document"]["benchmarks"], number)
        kept = results_folder(self._config) is not None
        said = {
            "test": self._item.nodeid,
            "word": answer["verdict"] if outcome == "ok" else outcome,
            "line": answer["line"],
            "file": os.path.relpath(results, self._config.invocation_params.dir) if kept else "",
            "rows": len(rows),
        }
        recorder(self._config).add(self._item, said, rows)
        if outcome == "ok":
            return
        policy = options.get(outcome, "fail")
        if policy == "skip":
            pytest.skip(answer["line"])
        if policy == "fail":
            remedy = f"\n  to do: {answer['remedy']}" if answer["remedy"] else ""
            raise AssertionError(f"{answer['line']}{remedy}")
        warnings.warn(ModelSpeedWarning(answer["line"]), stacklevel=3)


class DeployCompare(_Asking):
    """The fixture ``deploy_compare``."""

    name = "deploy_compare"

    def __call__(self, candidate: File, baseline: File, **options: Unpack[CompareOptions]) -> ComparedModels:
        """Measure two models in turn: faster or equivalent passes, anything else fails with the answer in one line.

        Parameters
        ----------
        candidate, baseline : str or path
            ONNX files, or folders of bundles, relative to the current folder.
        **options
            See docs/ci/pytest.md; omitted ones come from the marker ``model_speed``, the command line or the ini file.

        Raises
        ------
        AssertionError
            The candidate is slower, gives wrong answers or does not run; or as the policies say.
        pytest.UsageError
            An argument is invalid, or a file is missing.
        ModelSpeedError
            The measuring process died.
        """
        __tracebackhide__ = True
        answered = self._ask({"model": candidate, "against": baseline}, options, CompareOptions.__annotations__)
        self._settle(answered)
        return compared(answered.answer, answered.results)


class DeployMeasure(_Asking):
    """The fixture ``deploy_measure``."""

    name = "deploy_measure"

    def __call__(self, model: File, **options: Unpack[MeasureOptions]) -> MeasuredModel:
        """Measure one model; the test asserts its limits: ``assert deploy_measure("m.onnx").p50_ms < 8``.

        Parameters
        ----------
        model : str or path
            ONNX file, or folder of a bundle, relative to the current folder.
        **options
            See `DeployCompare`. With ``percentile=99`` it is measured until p99 is known well; if the budget is too
            short for that, the outcome is inconclusive.

        Raises
        ------
        AssertionError
            The model gives wrong answers or does not run; or as the policies say.
        pytest.UsageError
            An argument is invalid, or a file is missing.
        ModelSpeedError
            The measuring process died.
        """
        __tracebackhide__ = True
        answered = self._ask({"model": model}, options, MeasureOptions.__annotations__)
        if answered.answer["outcome"] == "ok":
            _require_percentile(answered.answer, answered.options["percentile"])
        self._settle(answered)
        (row,) = answered.answer["document"]["benchmarks"]
        return measured(row, answered.results)


def _require_percentile(answer: dict[str, Any], percentile: float) -> None:
    """Mark a measurement as inconclusive if it was too short for its percentile."""
    (row,) = answer["document"]["benchmarks"]
    name = f"p{percentile:g}".replace(".", "")
    if row["extra_info"][f"{name}_s"] is None:
        answer["outcome"] = "inconclusive"
        answer["line"] += f" {row['stats']['rounds']} calls are too few for p{percentile:g}."
        answer["remedy"] = "measure longer, with a larger budget_s"


def _as_file(inputs: File | Mapping[str, Any], folder: Path) -> str:
    if not isinstance(inputs, Mapping):
        return os.fspath(inputs)
    __tracebackhide__ = True
    import numpy as np  # already loaded by a test that has arrays

    file = folder / "inputs.npz"
    try:
        np.savez(file, **inputs)
    except (TypeError, ValueError) as error:
        raise pytest.UsageError(f"inputs cannot be written as a file of numpy.savez: {error}") from None
    return str(file)
