"""ONNX files inside packages of other people give a number in two tries: the first names all sizes, with an example."""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.errors import InputError
from benchmarks.process.warmup import WarmUpLimits
from benchmarks.runner import Settings, SubjectSpec, measure

QUICK = Settings(trials=1, rounds=3, block_ns=1_000_000, warm_up=WarmUpLimits(min_ns=0, max_ns=10_000_000))
FOLDER = Path(sys.prefix) / "published"


@pytest.mark.slow
@pytest.mark.optional
@pytest.mark.parametrize("backend", ["ort", "openvino"])
def test_a_published_file_gives_a_number_in_two_tries(backend):
    if not (paths := sorted(FOLDER.rglob("*.onnx"))):
        pytest.skip("the packages with the files are not there: make published")
    outcomes: Counter[str] = Counter()
    failed = []
    for path in paths:
        spec = SubjectSpec(model=path, backend=backend)
        try:
            measured, tries = measure(spec, settings=QUICK), "at once"
        except InputError as error:
            proposed = re.findall(r"--shape (\S+)=([\d,]+)", str(error).partition("for example")[2])
            assert proposed, error
            shapes = {name: tuple(map(int, sizes.split(","))) for name, sizes in proposed}
            measured = measure(SubjectSpec(model=path, backend=backend, shapes=shapes), settings=QUICK)
            tries = "with --shape"
        refused = measured.failure is not None and "openvino cannot compile it" in measured.failure
        outcomes["refused by the runtime" if refused else tries] += 1
        if measured.failure is not None and not refused:
            failed.append(f"{path.name}: {measured.failure}")
    print(f"{backend}: {dict(outcomes)}")  # noqa: T201  # pytest -rP shows it
    assert not failed, "\n".join(failed)
