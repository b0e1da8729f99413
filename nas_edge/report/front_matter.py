"""The YAML at the head of a card, as model repositories read it: Hugging Face's metadata of a model.

It is written here, for a YAML library would be needed for nothing else: scalars and strings in double quotes, which
YAML 1.2 has from JSON, in nested mappings and lists.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

from nas_edge.records import Measurement
from nas_edge.spec import CandidateSpec

LICENSES = "https://huggingface.co/docs/hub/repositories-licenses"
TAGS = ("onnx", "onnxruntime", "image-classification", "neural-architecture-search", "model-compression", "nas-edge")


def front_matter(
    spec: CandidateSpec,
    techniques: tuple[str, ...],
    *,
    final: Mapping[str, Any],
    study: Mapping[str, Any],
    measurement: Measurement | None,
    size_bytes: int,
) -> list[str]:
    """The lines of the front matter, with the measured values as a `model-index`; the license is left to be filled in.

    See https://github.com/huggingface/hub-docs/blob/main/modelcard.md.
    """
    metrics = [{"type": "accuracy", "name": "Accuracy, test split, in ONNX Runtime", "value": final["test_accuracy"]}]
    if measurement is not None:
        name = f"Latency, ms, median, 1 image, {measurement.fingerprint.get('cpu', measurement.target)}"
        metrics.append({"type": "latency_ms", "name": name, "value": measurement.p50_ms})
    metrics.append({"type": "size_bytes", "name": "Size of model.onnx, bytes", "value": size_bytes})
    data = study["data"]
    values = {
        "library_name": "onnx",
        "pipeline_tag": "image-classification",
        "tags": [*TAGS, *techniques],
        "metrics": ["accuracy"],
        "model-index": [
            {
                "name": f"{study['name']}, trial {study['trial']}",
                "results": [
                    {
                        "task": {"type": "image-classification"},
                        "dataset": {"type": data["name"], "name": data["name"], "split": "test"},
                        "metrics": metrics,
                    }
                ],
            }
        ],
    }
    license_line = f"license: unknown  # to be filled in: {LICENSES}"
    return ["---", license_line, *_lines(values, ""), "---"]


def _lines(values: Mapping[str, Any], indent: str) -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield f"{indent}{key}:"
            yield from _lines(value, f"{indent}  ")
        elif isinstance(value, list):
            yield f"{indent}{key}:"
            for item in value:
                inner = (
                    list(_lines(item, f"{indent}  ")) if isinstance(item, Mapping) else [f"{indent}  {scalar(item)}"]
                )
                yield f"{indent}- {inner[0].removeprefix(f'{indent}  ')}"
                yield from inner[1:]
        else:
            yield f"{indent}{key}: {scalar(value)}"


def scalar(value: str | float | int) -> str:
    """A value of YAML 1.1 and 1.2: text in double quotes, with escapes for what does not print."""
    if isinstance(value, str):
        return "".join(c if c.isprintable() else _escaped(c) for c in json.dumps(value, ensure_ascii=False))
    if isinstance(value, float):
        if not math.isfinite(value):
            return ".nan"
        text = f"{value:.6g}"
        return f"{value:.12f}".rstrip("0") if "e-" in text else text if "." in text else f"{value:.1f}"
    return str(value)


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
