"""Torch modules as they come: copied, run and compared.

`copies`, `modes` and `attributes` deal with the objects, `random_inputs`, `outputs`, `precision` and `perturb` with
what they compute.
"""

__all__: list[str] = []
