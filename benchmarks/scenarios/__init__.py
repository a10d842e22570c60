"""Load scenarios: several requests in flight (multi-stream), random arrivals (server), or all at once (offline)."""

from benchmarks.scenarios.definitions import (
    EQUIVALENTS,
    SCENARIOS,
    Device,
    MultiStream,
    Offline,
    ScenarioSettings,
    Server,
)
from benchmarks.scenarios.entry import parse, question_of, run_on_device, run_scenario, settings_of
from benchmarks.scenarios.offline import offline_calls
from benchmarks.scenarios.records import (
    DeviceResult,
    MultiStreamResult,
    OfflineResult,
    ScenarioResult,
    ServerProbe,
    ServerResult,
)
from benchmarks.scenarios.waiting import spin_ns_for

__all__ = [
    "EQUIVALENTS",
    "SCENARIOS",
    "Device",
    "DeviceResult",
    "MultiStream",
    "MultiStreamResult",
    "Offline",
    "OfflineResult",
    "ScenarioResult",
    "ScenarioSettings",
    "Server",
    "ServerProbe",
    "ServerResult",
    "offline_calls",
    "parse",
    "question_of",
    "run_on_device",
    "run_scenario",
    "settings_of",
    "spin_ns_for",
]
