"""Safe reading of untrusted files: regular files only, strict JSON, archives and ONNX graphs within bounds."""

__all__: list[str] = []
