"""Programs of other people."""

from __future__ import annotations

import sys

import pytest

from benchmarks.errors import WorkerError
from benchmarks.process.program import run_program


def test_input_output_and_exit_code_are_passed_on(tmp_path):
    code = "import sys, os; print(os.getcwd(), sys.stdin.read()); print('words', file=sys.stderr); sys.exit(3)"
    ran = run_program([sys.executable, "-c", code], given=b"asked", folder=tmp_path)
    assert ran.code == 3
    assert ran.output.decode().split() == [str(tmp_path.resolve()), "asked"]
    assert ran.errors.decode().strip() == "words"


def test_a_missing_program_is_named():
    with pytest.raises(WorkerError, match="program 'no-such-program' was not found: install it"):
        run_program(["no-such-program"])


def test_one_that_does_not_end_is_killed():
    with pytest.raises(WorkerError, match=r"did not finish in 0\.2 s"):
        run_program([sys.executable, "-c", "import time; time.sleep(100)"], timeout_s=0.2)
