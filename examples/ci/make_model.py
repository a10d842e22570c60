"""Write `model.onnx` and `validation.npz`: a small classifier that takes a few milliseconds, and examples for it.

    python make_model.py                     # the model as it should be
    python make_model.py --change slower     # the same answers, four layers of eighty more

Needs numpy and onnx. In your own repository, the model comes from your training.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

LAYERS, ROWS, FEATURES, CLASSES, EXAMPLES = 80, 44, 256, 10, 60
CHANGES = {
    "none": "nothing",
    "slower": "four layers of eighty more, which change no answer: 5 %",
    "wrong-answers": "the weights of one feature are 1 % larger",
    "more-memory": "32 MB of memory that nothing needs",
    "larger-file": "a megabyte in the file that nothing reads",
    "lower-accuracy": "the last layer is noisy",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--change", choices=CHANGES, default="none", help="what is different from the model before")
    parser.add_argument("--folder", type=Path, default=Path(), help="where the files go")
    arguments = parser.parse_args()
    write(arguments.folder, arguments.change)


def write(folder: Path, change: str = "none") -> None:
    """Write both files."""
    rng = np.random.default_rng(0)
    layer = np.eye(FEATURES, dtype=np.float32)[rng.permutation(FEATURES)]  # a dense product that loses no information
    head = rng.standard_normal((FEATURES, CLASSES)).astype(np.float32)
    examples = rng.standard_normal((EXAMPLES, ROWS, FEATURES)).astype(np.float32)
    labels = answers(examples, layer, head).argmax(axis=1)
    np.savez(folder / "validation.npz", x=examples, labels=labels)
    if change == "wrong-answers":
        layer[0] *= 1.01
    if change == "lower-accuracy":
        head += 2 * rng.standard_normal(head.shape).astype(np.float32)
    onnx.save(model_of(layer, head, change), folder / "model.onnx")


def answers(x: np.ndarray, layer: np.ndarray, head: np.ndarray) -> np.ndarray:
    """Compute the answers of the network, of shape (examples, classes)."""
    for _ in range(LAYERS - 1):
        x = np.maximum(x @ layer, 0)
    rows = x.mean(axis=1)
    return (rows - rows.mean(axis=1, keepdims=True)) @ head


def model_of(layer: np.ndarray, head: np.ndarray, change: str) -> onnx.ModelProto:
    """Build the network: equal layers, the last of which multiplies by the identity."""
    weights = {"layer": layer, "one": np.eye(FEATURES, dtype=np.float32), "head": head}
    names = ["layer"] * (LAYERS - 1) + ["one"] * (5 if change == "slower" else 1)
    nodes, value = [], "x"
    for index, name in enumerate(names):
        nodes += [
            helper.make_node("MatMul", [value, name], [f"product{index}"]),
            helper.make_node("Relu", [f"product{index}"], [f"value{index}"]),
        ]
        value = f"value{index}"
    nodes += [
        helper.make_node("ReduceMean", [value], ["rows"], axes=[1], keepdims=0),
        helper.make_node("ReduceMean", ["rows"], ["level"], axes=[1], keepdims=1),
        helper.make_node("Sub", ["rows", "level"], ["centred"]),
        helper.make_node("MatMul", ["centred", "head"], ["scores"]),
    ]
    if change == "more-memory":
        weights |= {"shape": np.array([8_000_000], np.int64), "first": np.array([0], np.int64)}
        nodes += [
            helper.make_node("ConstantOfShape", ["shape"], ["zeros"]),
            helper.make_node("Gather", ["zeros", "first"], ["zero"]),
            helper.make_node("Add", ["scores", "zero"], ["y"]),
        ]
    else:
        nodes.append(helper.make_node("Identity", ["scores"], ["y"]))
    if change == "larger-file":
        weights["unread"] = np.zeros(250_000, np.float32)
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", ROWS, FEATURES])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", CLASSES])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


if __name__ == "__main__":
    main()
