"""An ONNX graph run by torch: nodes to calls, operators one by one, kernels that torch lacks, sizes."""

__all__: list[str] = []
