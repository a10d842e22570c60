"""From a torch network to a checked ONNX file: capture, conversion, folding, agreement."""

__all__: list[str] = []
