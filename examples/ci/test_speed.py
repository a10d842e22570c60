"""The same check as a pytest test; needs the extra `pytest` of prune-deploy."""

from __future__ import annotations

from pathlib import Path

import make_model
import pytest


@pytest.mark.model_speed(threads=1, budget_s=60)
def test_the_model_is_not_slower_than_it_was(deploy_compare, tmp_path):
    make_model.write(tmp_path)
    deploy_compare(Path("model.onnx"), tmp_path / "model.onnx")
