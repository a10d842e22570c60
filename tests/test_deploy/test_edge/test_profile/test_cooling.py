"""What follows a load begins cool, or it is said that it did not."""

from __future__ import annotations

import pytest

from benchmarks.machine.board.watch import Reading
from deploy.edge.profile.cooling import WARMER_CELSIUS, cool_down


class Board:
    """Cools by a degree a second on a clock of its own, down to some temperature."""

    def __init__(self, celsius, floor=40.0):
        self.celsius, self.floor, self.now_s = celsius, floor, 0.0

    def read(self):
        return Reading() if self.celsius is None else Reading(celsius=self.celsius, sensor="cpu")

    def sleep(self, seconds):
        self.now_s += seconds
        self.celsius = max(self.floor, self.celsius - seconds)

    def cool(self, rest, limit_s=300.0):
        told = []
        found = cool_down(
            self, rest, "the load", limit_s=limit_s, say=told.append, clock=lambda: self.now_s, sleep=self.sleep
        )
        return found, told


def test_it_waits_until_the_board_is_cool():
    found, told = Board(85.0).cool(45.0)
    assert (found.ended, found.start_celsius, found.end_celsius) == ("cool", 85.0, 45.0 + WARMER_CELSIUS)
    assert found.waited_s == pytest.approx(85 - 45 - WARMER_CELSIUS)
    assert 2 <= len(told) <= 6, "a wait says so, not at every look"


def test_a_cool_board_is_not_waited_for():
    found, told = Board(46.0).cool(45.0)
    assert (found.ended, found.waited_s, told) == ("cool", 0.0, [])


def test_a_board_that_stays_hot_is_not_waited_for_for_ever():
    found, _ = Board(85.0, floor=60.0).cool(45.0, limit_s=30.0)
    assert (found.ended, found.end_celsius) == ("time limit", 60.0)
    assert found.waited_s == pytest.approx(30.0)


@pytest.mark.parametrize(("now", "rest"), [(None, 45.0), (85.0, None)])
def test_without_a_temperature_nothing_is_waited_for(now, rest):
    found, told = Board(now).cool(rest)
    assert (found.ended, found.waited_s, told) == ("not told", 0.0, [])
