"""TensorRT and TensorRT-RTX backend, one adapter for both.

The Python packages ``tensorrt`` (10.x, 11.x) and ``tensorrt_rtx`` share an API family; differences are looked up in the
imported module (`Dialect`), never by version number.

* Networks are always strongly typed: the precision is that of the ONNX file, on every version. For fp16 or bf16 the
  file itself must have that type. (The per-layer precision flags of 10.x are gone in 11.x and are not used.)
* TF32, on by default, is off: fp32 means fp32.
* A free dimension is compiled for 1 to 64 and tuned for 1; `CompiledModel.properties` say so.
* ``device="sm_XY"`` compiles for that compute capability without a GPU (TensorRT-RTX) and lists the layers; the engine
  cannot be run. Without a driver an engine cannot even be opened, so its layers are read from the builder's log; with a
  GPU they come from the engine inspector.
* Each call has its own execution context and CUDA stream: calls from several host threads run concurrently.
* A compiled artefact is one line of JSON, the properties it was built with, followed by the serialised engine.
* Quantised files are rejected: nothing here reads back which of their layers were executed on integers.
* One call is: copy from pinned host memory, ``execute_async_v3``, copy back to pinned host memory, wait.
"""

from backends.trt.backend import TrtBackend

__all__ = ["TrtBackend"]
