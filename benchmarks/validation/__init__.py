"""Studies that validate the measurements, each a command: ``python -m benchmarks.validation.<name>``.

`error_rates` on a `simulated_machine`, `real_machine`, `harness_overhead`, `tool_agreement` with third-party tools
(`oracles`); `naive` is the procedure they are compared with, `rates` the table.
"""

__all__: list[str] = []
