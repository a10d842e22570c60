"""A bundle makes no code run without consent."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from safetensors.torch import save_model
from torch import nn

from benchmarks.records.disk import file_sha256
from deploy.bundles.bundle import Bundle
from deploy.bundles.manifest import NetworkOrigin, Provenance
from deploy.bundles.rebuild import load_network
from deploy.errors import BundleError, SourceError

FACTORY = """
from torch import nn
open({mark!r}, "w").close()

def small(n_classes, input_shape):
    return nn.Sequential(nn.Flatten(), nn.Linear(48, n_classes))
"""


def bundle_of(folder, spec):
    """Make as much of a bundle as loading looks at; whoever writes one can write any hash into it."""
    origin = NetworkOrigin(spec=spec, n_classes=5, input_shape=(3, 4, 4))
    save_model(nn.Sequential(nn.Flatten(), nn.Linear(48, 5)), str(folder / "weights.safetensors"))
    manifest: Any = SimpleNamespace(provenance=Provenance(network=origin), files={})
    return Bundle(folder=folder, manifest=cast("Any", manifest))


def test_code_that_a_bundle_names_runs_with_consent_only(tmp_path):
    code, mark = tmp_path / "mine.py", tmp_path / "ran"
    code.write_text(FACTORY.format(mark=str(mark)))
    digest = file_sha256(code)
    for spec in ({"name": f"{code}:small"}, {"name": f"{code}:small", "file_sha256": digest}):
        bundle = bundle_of(tmp_path, spec)
        for consent in ({}, {"file_sha256": "0" * 64}, {"file_sha256": None}):
            with pytest.raises(BundleError, match=f"runs the code of that file; .*{digest}.*trust_code=True") as error:
                load_network(bundle, **consent)
            assert "\n" not in str(error.value)
        assert not mark.exists()
    assert not load_network(bundle, file_sha256=digest).training
    assert mark.exists()


def test_a_bundle_has_no_file_unpickled(tmp_path):
    pytest.importorskip("timm")
    options = {"checkpoint_path": str(tmp_path / "evil.pth")}
    bundle = bundle_of(tmp_path, {"name": "timm:resnet18", "options": options})
    with pytest.raises(SourceError, match="not as option checkpoint_path"):
        load_network(bundle)
