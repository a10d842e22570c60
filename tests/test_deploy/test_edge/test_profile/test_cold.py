"""From nothing to the first answer: each step is counted once, and a slow model is not started for ever."""

from __future__ import annotations

import pytest

from benchmarks.validation.simulated_machine import Service, SimulatedMachine
from deploy.edge.profile.cold import cold_starts


@pytest.fixture
def started(arm):
    def start(start_ns, before_ns=0, **options):
        machine = SimulatedMachine({"pruned": Service(median_ns=1e6)}, seed=0, start_ns=start_ns)

        def launch(spec, **settings):
            machine.now_ns += before_ns
            return machine.launch(spec, **settings)

        return cold_starts(arm(), timeout_s=1.0, launch=launch, clock=lambda: machine.now_ns, **options)

    return start


def test_the_steps_add_up(started):
    starts = started(300_000_000, before_ns=200_000_000)
    assert len(starts) == 5
    for one in starts:
        assert (one.process_ns, one.import_ns, one.load_ns, one.first_run_ns) == (200_000_000, *[100_000_000] * 3)
        assert one.total_ns == 500_000_000


@pytest.mark.parametrize(("budget_s", "number"), [(0.001, 1), (25.0, 3), (1000.0, 5)])
def test_a_slow_model_is_started_within_the_budget(started, budget_s, number):
    assert len(started(10_000_000_000, budget_s=budget_s)) == number
