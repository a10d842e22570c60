"""Whether a compiled model still answers right.

`reference` reads or computes the answers and compares; `reference_process` computes them without optimisation.
"""

__all__: list[str] = []
