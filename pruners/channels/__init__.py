"""Which channels live or die together.

`program` exports a network, `labelling` and `propagation` put labels on its values by the `rules` of its operators,
`grouping` makes groups of them; `residual_blocks`, `sites`, `group_names` and `survivors` read what that gives.
"""

__all__: list[str] = []
