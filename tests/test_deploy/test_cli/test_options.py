"""An option means the same in every command: one help text and one default, or a reason why there are several."""

from __future__ import annotations

from collections import defaultdict

import pytest
from typer.main import get_command

from deploy.cli.app import COMMANDS, app

SEVERAL = {
    "--against": "explain takes the file of a commit as well",
    "--backend": "some commands take one backend, others several",
    "--batch": "some commands take one size, others several",
    "--budget": "a recipe has its own, a calibration takes many more pairs",
    "--data-root": "doctor has no recipe",
    "--device": "compile knows devices that are not here",
    "--duration": "a load has to last until its queues are steady",
    "--format": "a check prints another one than results are written in for other tools",
    "--history": "a check keeps nothing unless it is asked to",
    "--input-shape": "a plan knows its own",
    "--jobs": "the processes of a study train, those of the coverage do not",
    "--network": "a run is of one's own, a plan is for one",
    "--on": "a run names the backends that it has to be fast on",
    "--output": "each command writes something else",
    "--percentile": "bench estimates it, load holds a bound at it",
    "--plan-space": "explain does without",
    "--plans": "a check measures fewer than a table is made of",
    "--seed": "what is drawn differs, and a check draws other plans than the table was made of",
    "--threads": "some commands take one number, others several; streams share them",
    "--top": "explain lists what misses most",
    "--weights": "a run starts from one's own, a plan from random ones",
}


def _options():
    found = defaultdict(lambda: defaultdict(set))
    root = get_command(app).commands
    for group, commands in COMMANDS.items():
        for name, entry in commands.items():
            if not entry.where:
                continue
            command = (root if group == "deploy" else root[group].commands)[name]
            for one in command.params:
                if one.param_type_name == "option":
                    found[max(one.opts, key=len)][(one.help, one.default)].add(f"{group} {name}")
    return found


@pytest.fixture(scope="module")
def options():
    return _options()


def test_an_option_has_one_help_and_one_default_in_all_commands(options):
    several = {name: dict(meanings) for name, meanings in options.items() if len(meanings) > 1}
    without = {name: meanings for name, meanings in several.items() if name not in SEVERAL}
    assert not without
    assert set(SEVERAL) == set(several), "a reason that is not needed any more"


def test_options_that_decide_a_measurement_mean_one_thing(options):
    # A job of many measurements has one budget.
    budgets = {help_ for help_, _ in options["--budget"] if not help_.startswith("Seconds for the whole job")}
    assert len(budgets) == 1
    assert len({help_ for help_, _ in options["--duration"]}) == 1
    assert len(options["--only"]) == 1
    assert {default for _, default in options["--threads"]} == {None}
    assert all("default: all usable cores" in help_ for help_, _ in options["--threads"])


def test_every_command_can_be_quiet_and_every_measurement_is_json(options):
    (quiet,) = options["--quiet"].values()
    assert quiet == {f"{group} {name}" for group, of in COMMANDS.items() for name, entry in of.items() if entry.where}
    (json,) = options["--json"].values()
    assert {f"study {name}" for name in COMMANDS["study"]} <= json
    assert {f"deploy {name}" for name in ("run", "bench", "compare", "load", "calibrate", "layers", "explain")} <= json
