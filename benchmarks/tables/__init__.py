"""How long a network of any widths takes, predicted from measured plans.

`plan_space` says what of an ONNX file follows the widths, `narrow` makes the file of any plan, `anchors` sums a
profile up by weighted layer, `fit` finds the staircases, `table` keeps and predicts, `build` does it all. `block` finds
a runtime's blocks without a table, `aligned` rounds the counts of a pruned network to them.
"""

__all__: list[str] = []
