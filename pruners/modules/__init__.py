"""Copy, run and compare arbitrary torch modules.

`copies`, `modes` and `attributes` deal with the objects, `random_inputs`, `outputs`, `precision` and `perturb` with
what they compute.
"""

__all__: list[str] = []
