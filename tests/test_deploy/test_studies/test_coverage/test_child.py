"""What a child of the coverage study does inside: wrong answers are seen, and the other library is called fairly."""

from __future__ import annotations

import copy
import importlib.util
import time

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from deploy.studies.coverage import checks, child, ours  # noqa: E402
from deploy.studies.coverage.clock import Clock, last_event  # noqa: E402
from deploy.studies.coverage.rows import CoverageJob, CoverageSettings, ListedNetwork  # noqa: E402
from deploy.studies.coverage.tp import output_layers  # noqa: E402

NETWORK = """
from torch import nn

def outputs_only():
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 4))

def raises():
    raise LookupError("no such block")

class Barely(nn.Module):
    # nearly all the work is in a layer whose channels are outputs
    def __init__(self):
        super().__init__()
        self.small, self.read, self.large = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1), nn.Conv2d(3, 64, 7, padding=3)

    def forward(self, x):
        return self.read(self.small(x).relu()), self.large(x)

def network():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4),
    )
"""
INSTALLED = importlib.util.find_spec("torch_pruning") is not None


@pytest.fixture
def job(tmp_path):
    (tmp_path / "network.py").write_text(NETWORK)

    def make(engine="ours", function="network", **settings):
        entry = ListedNetwork(
            set="own", name="n", maker=f"{tmp_path}/network.py:{function}", inputs=((1, 3, 8, 8),), millions=0.01
        )
        return CoverageJob(entry=entry, engine=engine, settings=CoverageSettings(**settings), source="", versions={})

    return make


def test_a_wrong_cut_is_wrong(job, tmp_path, monkeypatch):
    right = ours.apply

    def careless(*args, **kwargs):
        compact = right(*args, **kwargs)
        with torch.no_grad():
            compact[2].weight[0, 0] += 1
        return compact

    monkeypatch.setattr(ours, "apply", careless)
    row = child.measure(job(), Clock(tmp_path / "events"))
    assert (row.outcome, row.phase) == ("wrong", "verify")
    assert row.ort_error is None


def test_a_network_that_cannot_be_pruned_is_refused_with_its_reason(job, tmp_path):
    row = child.measure(job(function="outputs_only"), Clock(tmp_path / "events"))
    assert row.outcome == "refused"
    assert "output of the network" in row.reason


@pytest.mark.slow
def test_too_little_is_refused_but_run_all_the_same(job, tmp_path):
    row = child.measure(job(function="Barely"), Clock(tmp_path / "events"))
    assert row.outcome == "refused"
    assert "fewer multiply-accumulates" in row.reason
    assert row.ort_error < 1e-3


def test_what_a_network_raises_is_a_failure_with_its_phase(job, tmp_path):
    row = child.measure(job(function="raises"), Clock(tmp_path / "events"))
    assert (row.outcome, row.phase) == ("failed", "build")
    assert row.reason == "LookupError: no such block"


@pytest.mark.slow
def test_a_runtime_that_disagrees_is_wrong(job, tmp_path, monkeypatch):
    monkeypatch.setattr(checks, "runtime_error", lambda *_: 0.01)
    row = child.measure(job(), Clock(tmp_path / "events"))
    assert row.outcome == "wrong"
    assert row.reason == "ort differs from torch by 1.0e-02 of the output's range"
    assert row.dense_error == "differs by 1.0e-02 of the output's range"


@pytest.mark.slow
def test_a_runtime_that_gives_no_number_is_wrong(job, tmp_path, monkeypatch):
    monkeypatch.setattr(checks, "runtime_error", lambda *_: float("nan"))
    assert child.measure(job(), Clock(tmp_path / "events")).outcome == "wrong"


@pytest.mark.slow
@pytest.mark.skipif(not INSTALLED, reason="Torch-Pruning is not installed: pip install -e '.[compare]'")
def test_the_other_library_passes_the_same_checks(job, tmp_path):
    row = child.measure(job("torch-pruning"), Clock(tmp_path / "events"))
    own = child.measure(job(), Clock(tmp_path / "events"))
    assert (row.outcome, row.attempt) == ("ok", "plain")
    assert row.macs_before == own.macs_before
    assert 0 < row.macs_after < row.macs_before
    assert row.ort_error < 1e-3
    assert row.openvino_error < 1e-3


@pytest.mark.skipif(not INSTALLED, reason="Torch-Pruning is not installed: pip install -e '.[compare]'")
def test_too_little_is_a_failure_of_the_other_library(job, tmp_path):
    row = child.measure(job("torch-pruning", least_saved=0.9), Clock(tmp_path / "events"))
    assert row.outcome == "failed"
    assert "fewer multiply-accumulates" in row.reason


class TwoHeads(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.score, self.box, self.hidden = nn.Conv2d(4, 2, 1), nn.Linear(4, 5, bias=False), nn.Linear(4, 4)

    def forward(self, x):
        x = self.norm(self.stem(x)).relu()
        return {"score": self.score(x).flatten(2).transpose(1, 2), "box": self.box(self.hidden(x.mean((2, 3)))) * 2}


def test_output_layers_are_the_last_ones_before_each_output():
    network = TwoHeads().eval()
    assert set(output_layers(network, (torch.randn(1, 3, 6, 6),))) == {network.score, network.box}


def test_cost_counts_attention():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    macs, parameters = checks.cost(layer, (torch.randn(1, 5, 8),))
    # projections in and out, scores and their sum, two feed-forward layers
    assert macs == 5 * 8 * 24 + 5 * 8 * 8 + 2 * 5 * 5 * 8 + 2 * 5 * 8 * 16
    assert parameters == sum(parameter.numel() for parameter in layer.parameters())


class Token(nn.Module):
    def __init__(self):
        super().__init__()
        self.token, self.read = nn.Parameter(torch.zeros(1, 1, 4)), nn.Linear(4, 3)

    def forward(self, x):
        return self.read(self.token.expand(len(x), -1, -1)) + x.mean()


def test_cost_counts_a_network_that_hands_a_parameter_to_a_layer():
    network = Token()
    network.read.bias.requires_grad_(False)
    assert checks.cost(network, (torch.randn(2, 4),)) == (2 * 4 * 3, 4 + 12 + 3)
    assert [parameter.requires_grad for parameter in network.parameters()] == [True, True, False]


def test_clock_tells_phases_and_limits(tmp_path):
    events = tmp_path / "events"
    assert last_event(events) == ("start", None)
    clock = Clock(events)
    with clock.measure("prune", limited=True):
        phase, since = last_event(events)
        assert phase == "prune"
        assert since == pytest.approx(time.time(), abs=5)
    assert last_event(events) == ("prune", None)
    with clock.measure("onnx"):
        pass
    with events.open("a") as file:
        file.write('{"phase": "half')
    assert last_event(events) == ("onnx", None)
    assert clock.seconds.keys() == {"prune", "onnx"}


class Boxes(nn.Module):
    def __init__(self, n=3):
        super().__init__()
        self.n, self.scale = n, nn.Parameter(torch.ones(4))

    def forward(self, images):
        return [
            {"boxes": image.mean() * self.scale.expand(self.n, 4), "labels": torch.arange(self.n)} for image in images
        ]


def test_whole_detectors_are_compared_box_by_box():
    masked, compact = Boxes(), Boxes()
    assert checks.compare_detectors(masked, compact, seed=0) == 6
    with torch.no_grad():
        compact.scale[2] = 1.01
    with pytest.raises(checks.WrongAnswerError, match="boxes differ"):
        checks.compare_detectors(masked, compact, seed=0)
    with pytest.raises(checks.WrongAnswerError, match="shape"):
        checks.compare_detectors(masked, Boxes(2), seed=0)
    with pytest.raises(checks.WrongAnswerError, match="nothing was compared"):
        checks.compare_detectors(Boxes(0), Boxes(0), seed=0)


def test_comparing_detectors_leaves_no_trace():
    masked = Boxes()
    checks.compare_detectors(masked, copy.deepcopy(masked), seed=0)
    assert masked.scale.dtype == torch.float32
