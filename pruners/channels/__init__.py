"""Find which channels must be kept or removed together.

`program` exports a network, `labelling` and `propagation` label its values by the `rules` of its operators, `grouping`
turns labels into groups; `residual_blocks`, `sites`, `group_names` and `survivors` read the result.
"""

__all__: list[str] = []
