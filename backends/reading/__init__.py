"""What other people's files are read with: regular files only, strict JSON, archives and ONNX graphs within bounds."""

__all__: list[str] = []
