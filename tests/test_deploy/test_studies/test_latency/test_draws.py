"""Draws are drawn once and for all, and a network that is slower than the dense one is told and fails the command."""

from __future__ import annotations

import pytest

from deploy.bundles.pruning import SpeedLanding
from deploy.errors import SourceError
from deploy.studies.latency import draws
from deploy.studies.latency.rows import GridRow

NAMES = [network[1] for network in draws._NETWORKS]


def test_draws_are_the_same_for_a_seed_and_of_many_kinds():
    cases = draws.draws(200, 0)
    assert cases == draws.draws(200, 0) != draws.draws(200, 1)
    assert len({case.name for case in cases}) == 200
    assert {case.network.name for case in cases} == set(NAMES)
    assert {case.backend for case in cases} == {"ort", "openvino"}
    assert len({(case.method, *case.settings.items()) for case in cases}) == len(draws._METHODS)


@pytest.mark.parametrize("n", [-1, 0, 10**6])
def test_more_draws_than_there_are_or_none_are_refused(n):
    with pytest.raises(SourceError, match=f"--draws takes 1 to 9240, got {n}"):
        draws.draws(n, 0)


LANDING = SpeedLanding(
    backend="ort", threads=1, asked=0.5, tolerance=0.01, predicted=(0.5,), measured=(0.5,), kept_round=0, macs=0.4
)


def test_a_draw_without_a_network_or_a_refusal_is_told_and_fails_the_command(monkeypatch, capsys, tmp_path):
    (case,) = draws.draws(1, 0)
    rows = (GridRow(case=case, landing=LANDING, reason="the export fails"),)
    monkeypatch.setattr(draws, "run_cases", lambda asked, output, time_s: rows)
    with pytest.raises(SystemExit) as ended:
        draws.main(["--output", str(tmp_path / "draws.jsonl"), "--draws", "1"])
    assert ended.value.code == 1
    assert f"| failed: {case.name} | the export fails |" in capsys.readouterr().out


@pytest.mark.parametrize(("exported", "code"), [(0.6, None), (1.02, 1)])
def test_what_is_slower_is_told(exported, code, monkeypatch, capsys, tmp_path):
    cases = draws.draws(3, 0)
    rows = (
        GridRow(case=cases[0], landing=LANDING, exported=0.5),
        GridRow(case=cases[1], landing=LANDING, exported=exported),
        GridRow(case=cases[2], reason="5x the speed was asked for", refused=True),
    )
    monkeypatch.setattr(draws, "run_cases", lambda asked, output, time_s: rows)
    arguments = ["--output", str(tmp_path / "draws.jsonl"), "--draws", "3"]
    if code is None:
        draws.main(arguments)
    else:
        with pytest.raises(SystemExit) as ended:
            draws.main(arguments)
        assert ended.value.code == code
    told = capsys.readouterr().out
    assert f"| longest time of these, of the dense network's | {exported:.3f} |" in told
    assert f"| of these slower than the dense network | {int(exported >= 1)} |" in told
    assert "| refused: 5x the speed was asked for | 1 |" in told
    assert (f"| slower: {cases[1].name} | 1.020 |" in told) == (exported >= 1)
