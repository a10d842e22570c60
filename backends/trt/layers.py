"""The layers of an engine, read from the builder's report or from the engine inspector."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from backends.records import Precision

__all__ = ["TYPES", "EngineLayer", "layers_of_inspector", "layers_of_report"]

TYPES: dict[str, Precision] = {
    "Float": "fp32",
    "FP32": "fp32",
    "Half": "fp16",
    "FP16": "fp16",
    "BFloat16": "bf16",
    "BF16": "bf16",
}


@dataclass(frozen=True)
class EngineLayer:
    """One layer of an engine: its ONNX nodes, and the runtime's names for its output types."""

    name: str
    kind: str
    nodes: tuple[str, ...]
    types: frozenset[str]


def layers_of_report(report: str) -> tuple[EngineLayer, ...]:
    """Read the builder's report, a layer per line: ``Name: .., LayerType: .., .., Outputs: [..], .., Metadata: ..``."""
    layers = []
    for line in report.splitlines():
        if match := re.match(r"Name: (.*?), LayerType: (.*?), Inputs: .*?, Outputs: \[(.*)\], TacticName: (.*)", line):
            name, kind, outputs, rest = match.groups()
            types = frozenset(re.findall(r"Datatype: (\w+)", outputs))
            layers.append(EngineLayer(name, kind, _onnx_nodes(rest.partition("Metadata:")[2]), types))
    return tuple(layers)


def layers_of_inspector(text: str) -> tuple[EngineLayer, ...]:
    """Read the inspector's JSON; types are ``Datatype: Float`` (11.x, RTX) or the last word of a format (10.x)."""
    layers = []
    for entry in json.loads(text)["Layers"]:
        formats = [str(output.get("Datatype") or output.get("Format/Datatype", "")) for output in entry["Outputs"]]
        types = frozenset(word for word in re.findall(r"\w+", " ".join(formats)) if word in TYPES)
        layers.append(EngineLayer(entry["Name"], entry["LayerType"], _onnx_nodes(entry.get("Metadata", "")), types))
    return tuple(layers)


def _onnx_nodes(metadata: str) -> tuple[str, ...]:
    return tuple(re.findall(r"\[ONNX Layer: (.*?)\]", metadata))
