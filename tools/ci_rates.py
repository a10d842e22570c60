"""Measure how often `deploy check` is right: run it repeatedly on examples/ci in a temporary git repository.

    python tools/ci_rates.py --runs 20 --output rates.jsonl
    python tools/ci_rates.py --runs 20 --change none --load 1 --output loaded.jsonl

Each run is one line of the output, so an interrupted study can be continued. Run by `make rates`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples" / "ci"
BROKEN_BY = {
    "none": None,
    "slower": "slower",
    "wrong-answers": "answers",
    "more-memory": "more_memory",
    "larger-file": "larger_file",
    "lower-accuracy": "accuracy.at_least",
}
"""Change of the example -> limit that must report it."""
_DEPLOY = [sys.executable, "-P", "-c", "import prune_deploy; prune_deploy.main()"]


def make_repository(folder: Path, change: str) -> None:
    """Make a git repository with two commits: the example, and the example with a change."""
    shutil.copytree(EXAMPLE, folder, dirs_exist_ok=True)
    _git(folder, "init", "--quiet")
    for one in ("none", change):
        program = [sys.executable, str(EXAMPLE / "make_model.py"), "--change", one, "--folder", str(folder)]
        subprocess.run(program, check=True)
        _git(folder, "add", ".")
        _git(folder, "commit", "--quiet", "--allow-empty", "--message", one)


def run(folder: Path, *options: str) -> dict[str, object]:
    """Run `deploy check` in a repository; return its outcome."""
    began = time.monotonic()
    report = folder / "check.json"
    report.unlink(missing_ok=True)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    program = [*_DEPLOY, "check", "--output", report.name, *options]
    done = subprocess.run(program, cwd=folder, env=environment, capture_output=True, text=True)
    if not report.exists():
        raise SystemExit(f"deploy check ended with exit code {done.returncode}: {done.stderr.strip()}")
    document = json.loads(report.read_text(encoding="utf-8"))
    slower = next((row for row in document["rows"] if row["limit"] == "slower"), {})
    return {
        "exit_code": done.returncode,
        "broken": sorted(row["limit"] for row in document["rows"] if row["verdict"] == "broken"),
        "verdicts": {row["limit"]: row["verdict"] for row in document["rows"]},
        "outcomes": sorted({row["outcome"] for row in document["rows"]}),
        "slower": slower.get("observed"),
        "reason": slower.get("reason"),
        "retried": document["retried"],
        "seconds": round(time.monotonic() - began, 1),
    }


@contextmanager
def load(processes: int) -> Iterator[None]:
    """Keep `processes` cores busy."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--change", action="append", choices=BROKEN_BY, help="of the model; default: each")
    parser.add_argument("--runs", type=int, default=20, help="of each change")
    parser.add_argument("--load", type=int, default=0, help="processes that keep a core busy meanwhile")
    parser.add_argument("--output", type=Path, required=True, help="a line of JSON for each run")
    arguments = parser.parse_args()
    done = []
    if arguments.output.exists():
        done = [json.loads(line) for line in arguments.output.read_text(encoding="utf-8").splitlines()]
    changes = arguments.change or list(BROKEN_BY)
    with tempfile.TemporaryDirectory() as scratch, load(arguments.load):
        for change in changes:
            made = sum(one["change"] == change and one["load"] == arguments.load for one in done)
            folder = Path(scratch) / change
            make_repository(folder, change)
            for index in range(made, arguments.runs):
                row = {"change": change, "load": arguments.load, **run(folder)}
                done.append(row)
                with arguments.output.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
                print(f"{change} {index + 1}/{arguments.runs}: exit {row['exit_code']}, {row['seconds']} s", flush=True)
    for line in table(done):
        print(line)


def table(rows: list[dict[str, object]]) -> Iterator[str]:
    """Yield the lines of a Markdown table of how often each change was reported."""
    yield "| change | busy cores | runs | its own line | exit codes | seconds, most |"
    yield "|---|---|---|---|---|---|"
    for key in dict.fromkeys((row["change"], row["load"]) for row in rows):
        mine = [row for row in rows if (row["change"], row["load"]) == key]
        wanted = BROKEN_BY[str(key[0])]
        told = sum(wanted in row["broken"] if wanted else not row["broken"] for row in mine)  # type: ignore[operator]
        codes = Counter(row["exit_code"] for row in mine)
        shown = ", ".join(f"{code}: {count}" for code, count in sorted(codes.items()))
        longest = max(float(str(row["seconds"])) for row in mine)
        yield f"| {key[0]} | {key[1]} | {len(mine)} | {told} | {shown} | {longest:.0f} |"


def _git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=somebody", "-c", "user.email=somebody@example.org"]
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True)


if __name__ == "__main__":
    main()
