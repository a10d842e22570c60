"""Times per layer, profiled in a process of its own.

`profiler` runs `process` and `worker`; `layer_profile` joins layers with ONNX nodes (`onnx_nodes`) and holds them to a
`roofline`, `comparison` pairs the layers of two models by nodes that `matching` finds to be the same, and `explanation`
says why the time of a pruned one did not follow its MACs.
"""

__all__: list[str] = []
