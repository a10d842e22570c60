"""Placement of point labels so that none overlaps another, a marker or the edge."""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["Box", "place_labels"]

Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""

_DIRECTIONS = tuple(math.radians(angle) for angle in (-45, 45, -135, 135, 0, 180, -90, 90))
_STEP = 5.0
_RINGS = 60


def place_labels(
    points: Sequence[tuple[float, float]], sizes: Sequence[tuple[float, float]], within: Box, marker: float
) -> list[Box]:
    """Return a box for each label, in order: beside its point if there is room, else further away.

    Parameters
    ----------
    points : sequence of (float, float)
        Points to label.
    sizes : sequence of (float, float)
        Width and height of each label.
    within : tuple of float
        Area available to labels.
    marker : float
        Half the width of the points' markers, which no label covers.

    Raises
    ------
    ValueError
        There is no room for all labels.
    """
    taken = [(x - marker, y - marker, x + marker, y + marker) for x, y in points]
    placed = []
    for (x, y), (width, height) in zip(points, sizes, strict=True):
        found = next(
            (
                box
                for ring in range(_RINGS)
                for direction in _DIRECTIONS
                if _inside(box := _beside(x, y, width, height, marker + 1 + _STEP * ring, direction), within)
                and not any(_overlap(box, other) for other in taken)
            ),
            None,
        )
        if found is None:
            raise ValueError(f"no room for {len(points)} labels in {within}")
        taken.append(found)
        placed.append(found)
    return placed


def _beside(x: float, y: float, width: float, height: float, away: float, direction: float) -> Box:
    """Return the label's box at distance `away` from the point's centre, along a direction."""
    across, down = math.cos(direction), math.sin(direction)
    middle = x + across * (away + width / 2), y + down * (away + height / 2)
    return (middle[0] - width / 2, middle[1] - height / 2, middle[0] + width / 2, middle[1] + height / 2)


def _inside(box: Box, within: Box) -> bool:
    return box[0] >= within[0] and box[1] >= within[1] and box[2] <= within[2] and box[3] <= within[3]


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
