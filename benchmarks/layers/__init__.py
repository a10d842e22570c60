"""Times per layer, profiled in a separate process.

`profiler` runs `process` and `worker`; `layer_profile` joins layers with ONNX nodes (`onnx_nodes`) and compares them to
a `roofline`, `comparison` pairs the layers of two models by nodes that `matching` identifies, and `explanation` says
why the time of a pruned model did not follow its MACs.
"""

__all__: list[str] = []
