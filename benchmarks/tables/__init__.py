"""Latency tables: predict the latency of a network at any widths from measured plans.

`plan_space` says which parts of an ONNX file depend on the widths, `narrow` makes the file of any plan, `anchors` sums
a profile by weighted layer, `fit` fits staircases, `table` stores and predicts, `build` runs it all. `block` finds a
runtime's channel block without a table, `aligned` rounds the counts of a pruned network to it.
"""

__all__: list[str] = []
