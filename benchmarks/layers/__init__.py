"""Times per layer: profiled in a process of its own, matched to ONNX nodes, held against a roofline."""

__all__: list[str] = []
