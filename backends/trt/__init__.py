"""TensorRT and TensorRT-RTX behind one adapter.

The Python packages ``tensorrt`` (10.x, 11.x) and ``tensorrt_rtx`` share an API family; what differs is looked up in
the module at hand (`Dialect`), never by version number.

* Networks are always strongly typed: the precision is that of the ONNX file, on every version. For fp16 or bf16 the
  file itself must be typed so. (The per-layer precision flags of 10.x are gone in 11.x and are not used.)
* TF32, on by default, is off: fp32 means fp32.
* A free dimension is compiled for 1 to 64 and tuned for 1; `CompiledModel.properties` repeat it.
* ``device="sm_XY"`` compiles for that compute capability without a GPU (TensorRT-RTX) and lists the layers; the engine
  cannot run there. Without a driver an engine cannot even be opened, so its layers are read from the report that the
  builder logs; with a GPU they come from the engine inspector.
* Each call has an execution context and a CUDA stream of its own: calls of several host threads run at once.
* A compiled artefact is the serialised engine behind one line of JSON, the properties that it was built with.
* Quantised files are refused: nothing here reads back which of their layers were executed on integers.
* One call is: copy from pinned host memory, ``execute_async_v3``, copy back to pinned host memory, wait.
"""

from backends.trt.backend import TrtBackend

__all__ = ["TrtBackend"]
