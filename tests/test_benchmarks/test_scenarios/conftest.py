"""The queue of the Server scenario as a calculation: the discipline that the real streams follow, without time."""

from __future__ import annotations

import heapq

import numpy as np
import pytest


def simulate_server(scheduled_ns, service_ns, streams=1):
    """Serve requests in the order of their arrival, each by the stream that is free first; return (issued, done)."""
    if streams == 1:
        # Lindley: done[i] = max(scheduled[i], done[i - 1]) + service[i], with the running sum of services taken out.
        total = np.cumsum(service_ns)
        done = np.maximum.accumulate(scheduled_ns - (total - service_ns)) + total
        return done - service_ns, done
    free = [0] * streams
    done = np.empty_like(scheduled_ns)
    for index, (arrival, service) in enumerate(zip(scheduled_ns.tolist(), service_ns.tolist(), strict=True)):
        end = max(arrival, free[0]) + service
        heapq.heapreplace(free, end)
        done[index] = end
    return done - service_ns, done


@pytest.fixture(name="simulate_server", scope="session")
def _simulate_server():
    return simulate_server
