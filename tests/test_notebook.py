"""The examples of docs/python.md run in a notebook, one cell each, and results show themselves there as a table."""

from __future__ import annotations

import os
import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmarks.machine.lock import LOCK_VARIABLE

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
CELL = re.compile(r"```python ?(?P<library>\w*)\n(?P<code>.*?)```", re.DOTALL)


def _cells(page):
    """Yield what stands between the examples, and the examples: those whose library is there."""
    nbformat = pytest.importorskip("nbformat")
    end = 0
    for found in CELL.finditer(page):
        yield nbformat.v4.new_markdown_cell(page[end : found.start()].strip())
        if not found["library"] or find_spec(found["library"]):
            yield nbformat.v4.new_code_cell(found["code"].strip())
        end = found.end()
    for shown in ("results", "layers", "pruned", "results.to_frame()"):
        yield nbformat.v4.new_code_cell(shown)


def _shown(cell):
    (output,) = cell.outputs
    return output.data


@pytest.mark.slow
@pytest.mark.optional
def test_the_page_of_python_runs_as_a_notebook(tmp_path, monkeypatch):
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    pytest.importorskip("pandas")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    assert LOCK_VARIABLE in os.environ
    notebook = nbformat.v4.new_notebook(cells=list(_cells(PAGE)))
    nbformat.validate(notebook)
    folder = tmp_path / "work"
    folder.mkdir()
    client = nbclient.NotebookClient(notebook, timeout=500, resources={"metadata": {"path": str(folder)}})
    client.execute()
    *_, results, layers, pruned, frame = notebook.cells
    assert {"dense.onnx", "pruned.onnx", "fast.onnx", "results.json"} <= {path.name for path in folder.iterdir()}
    shown = _shown(results)
    assert "<table>" in shown["text/html"]
    assert "ort" in shown["text/html"]
    assert len(shown["text/plain"]) < 2000
    assert shown["text/plain"].startswith("Results: ")
    assert "Where the time of small goes on ort" in _shown(layers)["text/html"]
    assert _shown(pruned)["text/plain"].startswith("PrunedNetwork(")
    assert "speedup_low" in _shown(frame)["text/html"]
