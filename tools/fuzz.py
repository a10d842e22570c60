"""Read hostile files as a command would; run by ``make fuzz``.

Valid files of each kind (those of tests/golden) are changed: fields dropped, doubled, retyped, nested, made huge; bytes
flipped; files cut. For any input, a command must end with an exit code of docs/bench.md other than 70 and one line,
within time and memory limits, and leave nothing behind. Commands run in one process for each kind, whose parent notices
a crash or a hang. Hypothesis keeps failing draws in ``.hypothesis`` and tries them first the next time; the file
behind a failure is kept in ``.fuzz``.

``python tools/fuzz.py [--inputs N] [--minutes M] [KIND ...]``
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from hostile_files import KINDS, ROOT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deploy.exit_codes import DIFFERENT
from deploy.user_errors import guarded

FAILED = ROOT / ".fuzz"
CODES = {0, 2, 3, 4, 5, DIFFERENT}
MOST_SECONDS = 20
MOST_BYTES = 6 << 30
HANGS_SECONDS = 60


class TooSlowError(BaseException):
    """An input took too long."""


def _too_slow(*_: object) -> None:
    raise TooSlowError


def outcome(read: Callable[[], object], outside: Path) -> str:
    """Return what is wrong with how a command ended; empty if nothing is."""
    printed, said = io.StringIO(), io.StringIO()
    begun = time.monotonic()
    signal.alarm(MOST_SECONDS)
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(said):
            guarded(read)
    except SystemExit as ended:
        code = ended.code
    except TooSlowError:
        return f"it took more than {time.monotonic() - begun:.0f} s"
    except BaseException as error:  # noqa: BLE001 - that is what is looked for
        return f"{type(error).__name__}: {error}"
    finally:
        signal.alarm(0)
    text = said.getvalue()
    if code not in CODES:
        return f"exit code {code}: {text[:300]}"
    if "Traceback" in text or "\x1b" in printed.getvalue() + text:
        return f"a traceback or an escape: {text[:300]!r}"
    if code not in {0, DIFFERENT} and len(text.strip().splitlines()) != 1:  # a difference is an answer, on stdout
        return f"exit code {code} with {len(text.splitlines())} lines: {text[:300]}"
    if left := sorted(entry.name for entry in outside.iterdir()):
        return f"it left {left[:3]}"
    return ""


def fuzz(kind: str, n_inputs: int, deadline_s: float, work: Path) -> int:
    """Try inputs of one kind in this process; print each failure and keep its files."""
    resource.setrlimit(resource.RLIMIT_DATA, (MOST_BYTES, MOST_BYTES))
    signal.signal(signal.SIGALRM, _too_slow)
    case = KINDS[kind]()
    outside = work / "tmp"
    place = work / "input"
    outside.mkdir()
    os.environ["TMPDIR"] = tempfile.tempdir = str(outside)
    counts = {"tried": 0, "failed": 0}
    seen: set[str] = set()

    def attempt(rng: random.Random) -> None:
        if time.monotonic() > deadline_s:
            return
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        read = case(place, rng)
        (work / "alive").touch()
        wrong = outcome(read, outside)
        counts["tried"] += 1
        for entry in list(outside.iterdir()):
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        if not wrong:
            return
        counts["failed"] += 1
        if (name := wrong[:60]) not in seen:
            seen.add(name)
            kept = FAILED / f"{kind}-{len(seen)}"
            shutil.rmtree(kept, ignore_errors=True)
            shutil.copytree(place, kept, symlinks=True, ignore_dangling_symlinks=True)
            print(f"{kind}: {wrong} ({kept.relative_to(ROOT)})", flush=True)
        raise AssertionError(wrong)

    trying = settings(
        max_examples=n_inputs, deadline=None, suppress_health_check=list(HealthCheck), report_multiple_bugs=False
    )
    with contextlib.suppress(AssertionError):
        trying(given(st.integers(0, 2**64 - 1).map(random.Random))(attempt))()
    while counts["tried"] < n_inputs and time.monotonic() < deadline_s:  # Hypothesis ends at the first failure
        with contextlib.suppress(AssertionError):
            attempt(random.Random())
    print(f"{kind}: {counts['tried']} inputs, {counts['failed']} mishandled", flush=True)
    return int(counts["failed"] > 0)


def watched(kind: str, n_inputs: int, seconds: float) -> bool:
    """Run one kind in a separate process, and report how it died, if it did."""
    command = [sys.executable, __file__, "--inputs", str(n_inputs), "--minutes", str(seconds / 60), kind]
    work = Path(tempfile.mkdtemp(prefix="fuzz-"))
    with subprocess.Popen([*command, "--work", str(work)]) as process:
        while process.poll() is None:
            time.sleep(0.5)
            alive = work / "alive"
            if alive.exists() and time.time() - alive.stat().st_mtime > HANGS_SECONDS:
                process.kill()
    if process.returncode not in (0, 1):
        kept = FAILED / f"{kind}-died"
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(work / "input", kept, symlinks=True)
        print(f"{kind}: the process ended with {process.returncode} on {kept.relative_to(ROOT)}")
    shutil.rmtree(work)
    return process.returncode == 0


def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", choices=[*KINDS, []], metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("--inputs", type=int, default=1000, help="of each kind")
    parser.add_argument("--minutes", type=float, default=15.0, help="for all kinds together")
    parser.add_argument("--work", help=argparse.SUPPRESS)  # of the process of one kind
    given_ = parser.parse_args()
    kinds = given_.kinds or list(KINDS)
    if given_.work:
        return fuzz(kinds[0], given_.inputs, time.monotonic() + 60 * given_.minutes, Path(given_.work))
    FAILED.mkdir(exist_ok=True)
    ended = [watched(kind, given_.inputs, 60 * given_.minutes / len(kinds)) for kind in kinds]
    return int(not all(ended))


if __name__ == "__main__":
    raise SystemExit(main())
