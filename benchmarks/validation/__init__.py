"""Studies of the measuring itself, each a command: ``python -m benchmarks.validation.<name>``.

`error_rates` on a `simulated_machine`, `real_machine`, `harness_overhead`, `tool_agreement` with tools of others
(`oracles`); `naive` is the procedure that is measured against, `rates` the table.
"""

__all__: list[str] = []
