"""Measure how close networks come to requested speeds, on every backend, with one thread and with all.

    python -m deploy.studies.latency.grid --output grid.jsonl
    python -m deploy.studies.latency.grid --output grid.jsonl --only 'resnet18:ort:1:*' --no-competitors
    python -m deploy.studies.latency.grid --output grid.jsonl --no-run --markdown grid.md

A case is ``network:backend:threads:asked``, with `asked` as a share of the dense network's time. Each is a line of the
output, so an interrupted run resumes; a case that lacks a result and was not refused is tried again. Each is compared
with the networks that other ways to choose kept counts give at the same measured time. Networks of timm and ultralytics
need the extra ``libraries``.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from deploy.files.atomic import write_file
from deploy.report.markdown import markdown
from deploy.studies.coverage.rows import ListedNetwork
from deploy.studies.latency.competitors import NAMES
from deploy.studies.latency.rows import Case, read
from deploy.studies.latency.running import chosen, run_cases
from deploy.studies.latency.summary import grid_tables
from deploy.user_errors import guarded

__all__ = ["cases", "main"]

_IMAGE, _PHOTO = (2, 3, 224, 224), (1, 3, 640, 640)
"""A batch of one is baked into the file, as the heads of ultralytics' detectors support no free batch."""
_NETWORKS = (
    ("torchvision", "resnet18", _IMAGE, 11.7),
    ("torchvision", "mobilenet_v2", _IMAGE, 3.5),
    ("torchvision", "mobilenet_v3_large", _IMAGE, 5.5),
    ("torchvision", "efficientnet_b0", _IMAGE, 5.3),
    ("torchvision", "resnet50", _IMAGE, 25.6),
    ("torchvision", "vgg16_bn", _IMAGE, 138.4),
    ("timm", "vit_tiny_patch16_224", _IMAGE, 5.7),
    ("ultralytics", "yolov8n", _PHOTO, 3.2),
    ("ultralytics", "yolo11n", _PHOTO, 2.6),
)
_BACKENDS, _ASKED = ("ort", "openvino"), (0.75, 0.5, 0.35)


def cases(competitors: Sequence[str] = NAMES) -> tuple[Case, ...]:
    """Return the cases of the grid, one thread first."""
    every = len(os.sched_getaffinity(0))
    return tuple(
        Case(
            network=ListedNetwork(set="latency", name=name, maker=maker, inputs=(shape,), millions=millions),
            backend=backend,
            threads=threads,
            asked=asked,
            competitors=tuple(competitors),
        )
        for threads in dict.fromkeys((1, every))
        for maker, name, shape, millions in _NETWORKS
        for backend in _BACKENDS
        for asked in _ASKED
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="lines of JSON, one a case")
    parser.add_argument("--only", action="append", default=[], metavar="PATTERN", help="repeat for several")
    parser.add_argument("--time-limit", type=float, default=1200.0, metavar="SECONDS", help="for one case")
    parser.add_argument("--no-competitors", action="store_true", help="ask for the speeds alone")
    parser.add_argument("--no-run", action="store_true", help="only tell what the output holds")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables there")
    given = parser.parse_args(arguments)
    asked = chosen(cases(() if given.no_competitors else NAMES), given.only)
    if given.no_run:
        names = {case.name for case in asked}
        rows = tuple(row for row in read(given.output) if row.case.name in names)
    else:
        rows = run_cases(asked, given.output, time_s=given.time_limit)
    text = "\n".join(markdown(table) for table in grid_tables(rows))
    if given.markdown is not None:
        write_file(given.markdown, text)
    sys.stdout.write(text)


if __name__ == "__main__":
    guarded(main)
