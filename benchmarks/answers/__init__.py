"""Check that a compiled model still gives the right answers.

`reference` reads or computes the answers and compares; `reference_process` computes them without optimisation.
"""

__all__: list[str] = []
