"""Times per layer, profiled in a process of its own.

`profiler` runs `process` and `worker`; `layer_profile` joins layers with ONNX nodes (`onnx_nodes`) and holds them to a
`roofline`, and `comparison` pairs the layers of two models.
"""

__all__: list[str] = []
