"""`deploy profile` from end to end on a small network, and what it says to those who ask for nonsense."""

from __future__ import annotations

import json
import time

import pytest

from benchmarks.machine.board.watch import Reading
from benchmarks.subject.subject import content_sha256
from deploy.cli.boards.fetched import GivenCommand
from deploy.cli.profile_ import show_fetched
from deploy.edge.boards.address import Address
from deploy.edge.profile import run
from deploy.edge.profile.record import load
from deploy.edge.profile.steadiness import steadiness
from deploy.errors import BoardError

from .conftest import BOARD


@pytest.fixture
def again(here, tmp_path, profile):
    """Show a profile that was kept."""
    path = tmp_path / "kept.json"
    profile.save(path)
    return lambda *options: here("report", path, *options)


def test_every_part_is_there_or_named_as_absent(here, model, tmp_path):
    file, page, notes = (tmp_path / name for name in ("profile.json", "profile.html", "profile.md"))
    done = here(
        *("profile", model, "--fast", "--sustain", "1", "--budget", "2", "--skip", "layers", "--accept-unfit"),
        *("--no-check", "--output", file, "--page", page, "--markdown", notes, "--quiet"),
    )
    assert done.returncode == 0, done.stderr
    made = load(file)
    assert {one.part for one in made.absent} >= {"layers"}
    assert made.why_absent("layers") == "left out by --skip"
    there = {"cold": made.cold, "sustained": made.sustained, "sweep": made.sweep, "layers": made.layers}
    for part, found in there.items():
        assert bool(found) != (made.why_absent(part) is not None), part
    assert made.board.energy or made.why_absent("energy") == made.board.no_energy
    assert 1 <= len(made.cold) <= 5
    assert made.sweep[0].point.threads == made.results.measurements[0].subject.threads
    assert made.board.runtimes["ort"]
    assert "How fast" in done.stdout
    for words in ("How fast", "Best setting"):
        assert words in page.read_text()
        assert words in notes.read_text()
    assert str(tmp_path) not in file.read_text(), "a profile travels: it names no folder of this machine"


class Meter:
    """Counts five watts, as a board with rails does."""

    sources = ("VDD_IN",)

    def start(self):
        self.begin_ns = time.monotonic_ns()

    def stop(self):
        return 5 * (time.monotonic_ns() - self.begin_ns) // 1000


class Warm:
    """A board that cools by a degree at each look after the first."""

    looks = 0

    def __init__(self, *_, **__):
        pass

    def read(self):
        Warm.looks += 1
        return Reading(celsius=40.0 if Warm.looks == 1 else 46.0 - Warm.looks, sensor="cpu-thermal")


def test_power_at_rest_and_the_waits_are_part_of_it(here, model, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "EnergyMeter", Meter)
    monkeypatch.setattr(run, "BoardWatch", Warm)
    monkeypatch.setattr(run, "read_board", lambda **_: BOARD)
    monkeypatch.setattr(run, "_IDLE_S", 0.1)
    Warm.looks = 0
    file = tmp_path / "profile.json"
    parts = [word for part in ("cold", "sweep", "layers") for word in ("--skip", part)]
    options = ("--fast", "--budget", "1", "--sustain", "0.5", "--no-check", "--accept-unfit", "--quiet")
    done = here("profile", model, *options, *parts, "-o", file)
    assert done.returncode == 0, done.stderr
    made = load(file)
    assert made.idle_watts == pytest.approx(5, rel=0.1)
    [cooled] = made.cooling
    assert (cooled.before, cooled.ended, cooled.target_celsius) == ("load on net", "cool", 44.0)
    assert steadiness(made.sustained[0]).watts == pytest.approx(5, rel=0.2)
    assert made.why_absent("energy") is None
    assert "a call, of all that VDD_IN counts" in " ".join(done.stdout.split())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--sustain", "soon"), "--sustain 'soon': write how long, for example 90s or 5m"),
        (("--sustain", "-5"), "--sustain '-5'"),
        (("--sustain", "25h"), "a day at most"),
        (("--skip", "steady"), "--skip 'steady' is not one of cold, sustained, sweep, layers"),
        (("--backend", "ortt"), "unknown backend 'ortt'; did you mean 'ort'?"),
        (("--backend", "ort", "--backend", "nope"), "unknown backend 'nope'"),
        (("--cores", "5-1"), "is not a range of cores"),
        (("--budget", "0"), "budget_s must be positive"),
        (("--output", "none/profile.json"), "none"),
        (("--threads", "5000"), "at most 4,096 are started"),
        (("--precision", "bf16", "--skip", "sweep"), "backend 'ort' computes in the types of the file"),
    ],
)
def test_nonsense_is_one_line_before_anything_is_measured(here, model, monkeypatch, options, words):
    monkeypatch.chdir(model.parent)
    done = here("profile", model, "--quiet", *options)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert {path.name for path in model.parent.iterdir()} == {"net.onnx"}


def test_a_file_that_is_no_network_is_one_line(here, tmp_path):
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"not a network")
    done = here("profile", path, "--quiet")
    assert done.returncode == 2
    assert "broken.onnx" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


class Board:
    """Ends as it likes."""

    def __init__(self, profile, model, code=0):
        self.options = {"model": str(model), "against": None, "accept_unfit": True, "json": False, "verbose": False}
        self.options |= {"output": None, "page": None, "markdown": None}
        self.command = GivenCommand(self.options, Address.read("ssh://pi@board"), code)


def test_what_a_board_measured_is_shown_here_and_has_to_be_of_the_model_that_was_sent(profile, model, tmp_path, capsys):
    path = tmp_path / "fetched"
    row = profile.results.models[1].model_copy(update={"sha256": content_sha256(model)})
    results = profile.results.model_copy(
        update={"comparisons": (), "measurements": (profile.results.comparisons[0].candidate,), "models": (row,)}
    )
    parts = {"results": results, "cold": (), "sustained": profile.sustained[1:], "sweep": ()}
    sent = profile.model_copy(update=parts)
    sent.save(path)
    show_fetched(path, Board(sent, model).command)
    assert "Orange Pi 5 Plus" in capsys.readouterr().out
    with pytest.raises(BoardError, match="exit code 5"):
        show_fetched(path, Board(sent, model, code=5).command)
    profile.save(path)
    with pytest.raises(BoardError, match="did not measure the models that were sent"):
        show_fetched(path, Board(profile, model).command)


def test_a_profile_is_shown_again(again, tmp_path):
    page = tmp_path / "again.html"
    done = again("--page", page, "-v")
    assert done.returncode == 0, done.stderr
    assert "How steady" in done.stdout
    assert "Under load without a pause" in done.stdout
    assert "How steady" in page.read_text()
    assert json.loads(again("--json").stdout)["board"]["model"] == "Orange Pi 5 Plus"


def test_a_profile_has_layers_of_its_own(again):
    done = again("--layers", "layers.json", "--page", "page.html")
    assert done.returncode == 2
    assert "a profile has layers of its own" in done.stderr
