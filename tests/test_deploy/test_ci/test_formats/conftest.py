"""Golden files of formats."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.results.results import load

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture
def golden(request):
    """Compare a text with a file; ``--remake`` writes the file."""

    def compare(name, text):
        path = GOLDEN / name
        if request.config.getoption("--remake"):
            path.write_text(text, encoding="utf-8")
        assert text == path.read_text(encoding="utf-8")

    return compare


@pytest.fixture(scope="session")
def results():
    """Results of a pair of models on three backends."""
    return load(Path(__file__).parents[3] / "golden" / "results-v1.json")
