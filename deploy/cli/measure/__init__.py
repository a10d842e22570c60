"""The commands that measure a given ONNX file: ``bench``, ``load``, ``layers`` and their kin. One file each."""

__all__: list[str] = []
