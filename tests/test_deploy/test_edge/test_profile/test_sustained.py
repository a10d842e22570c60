"""Minutes of load on a simulated board: what throttles is seen, at its second, and what does not is not."""

from __future__ import annotations

import pytest

from benchmarks.machine.board.watch import Reading
from deploy.edge.profile.headline import headline
from deploy.edge.profile.steadiness import steadiness

from .conftest import BIG, BOARD


class Silent:
    """A board that tells nothing."""

    def read(self):
        return Reading()


def test_a_cap_of_the_clock_shows_as_throttling(loaded):
    load = loaded(120, 41)
    found = steadiness(load)
    assert found.throttling.after_s == pytest.approx(41, abs=1.5)
    assert found.throttling.words == f"2.40 -> 1.50 GHz ({BIG})"
    assert found.ratio == pytest.approx(1 / 1.6, rel=0.02)
    assert found.interval.low < 1 / 1.6 < found.interval.high
    assert found.interval.high - found.interval.low < 0.05
    assert found.interval.confidence >= 0.95
    assert (found.start_celsius, found.highest_celsius) == (pytest.approx(41.6, abs=0.2), 85.0)
    assert found.sensor == "bigcore0-thermal"
    assert found.lasted_s == pytest.approx(120, abs=0.5)


def test_a_board_that_keeps_its_clock_is_steady(loaded):
    found = steadiness(loaded(60))
    assert found.throttling is None
    assert found.tells_clock
    assert found.ratio == pytest.approx(1, abs=0.02)
    assert found.interval.low <= 1 <= found.interval.high


def test_the_clock_of_an_idle_core_is_no_throttling(loaded):
    found = steadiness(loaded(60, 20, factor=1.0))
    assert found.throttling is None, "the clock fell, and no call took longer"


def test_what_holds_the_clock_down_is_told_where_no_clock_is(loaded):
    class Firmware(Silent):
        def __init__(self):
            self.looks = 0

        def read(self):
            self.looks += 1
            return Reading(throttled=("the firmware throttles",) if self.looks > 12 else ())

    found = steadiness(loaded(30, watch=Firmware()))
    assert found.throttling.words == "the firmware throttles"
    assert found.throttling.after_s == pytest.approx(12, abs=1.1), "the look before the load is none of its seconds"


def test_a_board_that_tells_nothing_has_speeds_only(loaded):
    found = steadiness(loaded(30, 15, watch=Silent()))
    assert found.ratio == pytest.approx(1 / 1.6, rel=0.02)
    assert found.throttling is None
    assert not found.tells_clock
    assert (found.highest_celsius, found.sensor, found.events) == (None, "", None)


@pytest.mark.parametrize(
    ("called", "sources", "told"),
    [
        ("Raspberry Pi 5 Model B Rev 1.0", (), False),
        ("Raspberry Pi 5 Model B Rev 1.0", ("the kernel's cooling devices",), False),
        ("Raspberry Pi 5 Model B Rev 1.0", ("the firmware (get_throttled)",), True),
        ("Orange Pi 5 Plus", (), True),
    ],
)
def test_a_clock_that_the_firmware_holds_down_unseen_tells_of_no_throttling(loaded, profile, called, sources, told):
    board = BOARD.model_copy(update={"model": called, "throttling": sources})
    steady = loaded(30)
    assert steadiness(steady, board).tells_clock == told
    shown = profile.model_copy(update={"board": board, "sustained": (steady,)})
    said = "\n".join(headline(shown)[1].details)
    assert ("no throttling seen" in said) == told
    assert ("throttling: not told by this machine" in said) != told


def test_power_and_energy_are_those_of_the_meter(loaded):
    load = loaded(60, 30)
    found = steadiness(load)
    assert all(second.watts == pytest.approx(5, rel=1e-3) for second in load.seconds)
    assert found.watts == pytest.approx(5, rel=1e-3)
    assert found.energy_uj == pytest.approx(5e6 * found.lasted_s / found.calls, rel=0.01)


def test_every_second_is_looked_at_and_few_calls_are_kept(loaded):
    load = loaded(30)
    assert len(load.seconds) == pytest.approx(30, abs=1)
    assert all(second.lasted_s == pytest.approx(1, abs=0.1) for second in load.seconds)
    assert all(len(second.calls_ns) <= 256 for second in load.seconds)
    assert sum(second.calls for second in load.seconds) == pytest.approx(3000, rel=0.03)


@pytest.mark.parametrize("correlation", [0.0, 0.9])
def test_the_interval_holds_the_true_share(loaded, correlation):
    found = [steadiness(loaded(30, 10, seed=seed, sigma=0.05, correlation=correlation)).interval for seed in range(20)]
    known = [one for one in found if one is not None]
    assert len(known) >= 18
    assert sum(one.low <= 1 / 1.6 <= one.high for one in known) >= len(known) - 1


@pytest.mark.parametrize("seconds", [0.1, 1.0, 3.0])
def test_a_short_load_says_what_it_can(loaded, seconds):
    found = steadiness(loaded(seconds))
    assert found.calls >= 1
    assert found.ratio == pytest.approx(1, abs=0.1)
