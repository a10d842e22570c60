"""Wait until the board has cooled down, so that the next part does not start hot."""

from __future__ import annotations

import time
from collections.abc import Callable

from benchmarks.machine.board.watch import Watching
from deploy.edge.profile.record import Cooling

__all__ = ["WARMER_CELSIUS", "cool_down"]

WARMER_CELSIUS = 4.0
"""Margin above the temperature at rest that counts as cool: chips approach it ever more slowly."""
_LOOK_S = 1.0
_SAID_S = 10.0


def cool_down(
    watch: Watching,
    rest_celsius: float | None,
    before: str,
    *,
    limit_s: float,
    say: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Cooling:
    """Wait until the hottest sensor is close to the temperature at rest, or until a time limit.

    Parameters
    ----------
    watch : Watching
        Reads the board.
    rest_celsius : float or None
        Temperature before any load; None: it is not reported, and there is no wait.
    before : str
        What the wait is for.
    limit_s : float
        Longest wait in seconds.
    say : callable
        Receives a short progress line now and then.
    clock, sleep : callable
        Return the time and sleep, in seconds.
    """
    celsius = watch.read().celsius
    if rest_celsius is None or celsius is None:
        return Cooling(before=before, ended="not told")
    start_celsius, target, begin_s, said_s = celsius, rest_celsius + WARMER_CELSIUS, clock(), -_SAID_S
    while celsius is not None and celsius > target and (waited_s := clock() - begin_s) < limit_s:
        if waited_s - said_s >= _SAID_S:
            said_s = waited_s
            say(f"cooling down: {celsius:.1f} C, waiting for {target:.1f} C, at most {limit_s - waited_s:.0f} s more")
        sleep(min(_LOOK_S, limit_s - waited_s))
        celsius = watch.read().celsius
    return Cooling(
        before=before,
        target_celsius=target,
        start_celsius=start_celsius,
        end_celsius=celsius,
        waited_s=clock() - begin_s,
        ended="cool" if celsius is not None and celsius <= target else "time limit",
    )
