"""The commands that measure a given ONNX file: ``bench``, ``load``, ``layers`` and others. One file each."""

__all__: list[str] = []
