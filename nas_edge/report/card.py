"""Writes what ships: the ONNX file, the recipe that rebuilds it, and the card that says what it is."""

from __future__ import annotations

import html
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from nas_edge import __version__
from nas_edge.engine.loop import techniques_of
from nas_edge.errors import StorageError
from nas_edge.records import TRAINING, Evaluation, Measurement
from nas_edge.report.audit import error_line
from nas_edge.spec import CandidateSpec

LIBRARIES = ("torch", "onnx", "onnxruntime", "optuna", "torch-pruning", "numpy")


def write_export(
    folder: Path,
    model: Path,
    spec: CandidateSpec,
    evaluation: Evaluation,
    *,
    final: Mapping[str, Any],
    study: Mapping[str, Any],
    measurement: Measurement | None,
    audit: dict[str, Any] | None = None,
) -> list[Path]:
    """Write `model.onnx`, `recipe.json` and `card.md`; returns their paths. Raises `StorageError`."""
    recipe = {
        "spec": spec.to_json(),
        "evaluation": {**asdict(evaluation), "test_accuracy": final["test_accuracy"]},
        "study": study,
        "versions": {"nas-edge": __version__, **{name: version(name) for name in LIBRARIES}},
    }
    texts = {
        "recipe.json": json.dumps(recipe, indent=2) + "\n",
        "card.md": card(spec, evaluation, final=final, study=study, measurement=measurement, audit=audit),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / "model.onnx", *(folder / name for name in texts)]
        shutil.copyfile(model, paths[0].with_suffix(".part"))
        paths[0].with_suffix(".part").replace(paths[0])
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise StorageError(f"cannot write into {folder}: {error.strerror}; choose another -o") from None
    return paths


def card(
    spec: CandidateSpec,
    evaluation: Evaluation,
    *,
    final: Mapping[str, Any],
    study: Mapping[str, Any],
    measurement: Measurement | None,
    audit: dict[str, Any] | None = None,
) -> str:
    """The card in Markdown: accuracy, latency, size, on which CPU, with which ONNX Runtime, and how to run it."""
    data = study["data"]
    rows = [
        (
            "Accuracy on the test split",
            f"{final['test_accuracy']:.4f} ({final['test_images']:,} images, in ONNX Runtime)",
        ),
        ("Accuracy on the validation split", f"{evaluation.accuracy:.4f}"),
        ("Latency, measured", _measured(measurement)),
        ("Latency, predicted", _predicted(final)),
        ("Error of the predictions in this search", error_line(audit)),
        ("Latency budget", "none" if study["max_latency_ms"] is None else f"{study['max_latency_ms']:g} ms"),
        ("Size of the file", f"{evaluation.size_bytes:,} bytes"),
        ("Parameters", f"{evaluation.parameters:,}"),
        ("Multiply-accumulates", "not known" if evaluation.macs is None else f"{evaluation.macs:,} for one image"),
        ("Techniques", techniques_of(spec, evaluation)),
    ]
    lines = [f"# {study['name']}, trial {study['trial']}", ""]
    lines += ["| | |", "| --- | --- |", *(f"| {name} | {_cell(value)} |" for name, value in rows), ""]
    lines += ["## Input and output", "", *_interface(data), ""]
    lines += ["## Where it was measured", "", *_device(measurement), ""]
    lines += ["## What each technique did", "", *_steps(evaluation), ""]
    lines = [_text(line) for line in lines]  # names of classes, devices and steps come from outside
    lines += ["## Run it", "", "```python", *_script(data), "```", ""]
    return "\n".join(lines)


def _text(line: str) -> str:
    """One line of text, in which nothing is HTML."""
    return html.escape(" ".join(line.splitlines()), quote=False)


def _cell(value: str) -> str:
    return value.replace("|", "\\|")


def _measured(measurement: Measurement | None) -> str:
    if measurement is None:
        return "not measured"
    interval = f"{measurement.low_ms:.3g} to {measurement.high_ms:.3g}"
    doubt = f"; may be unstable: {measurement.unstable_because}" if measurement.unstable_because else ""
    return f"{measurement.p50_ms:.3g} ms median ({interval}), {measurement.p90_ms:.3g} ms at 90 %{doubt}"


def _predicted(final: Mapping[str, Any]) -> str:
    if final["predicted_ms"] is None:
        return "none: an operator has no kernel in the profile, so the search measured it"
    return f"{final['predicted_ms']:.3g} ms ({final['predicted_low_ms']:.3g} to {final['predicted_high_ms']:.3g})"


def _interface(data: Mapping[str, Any]) -> list[str]:
    shape = f"[batch, {data['channels']}, {data['resolution']}, {data['resolution']}]"
    return [
        f"- `input`: float32 {shape}, pixels divided by 255. Normalisation and resizing are inside the model.",
        f"- Images: {data['preprocessing']}",
        f"- `logits`: float32 [batch, {len(data['classes'])}], in the order of the classes:",
        f"  {', '.join(data['classes'])}",
    ]


def _device(measurement: Measurement | None) -> list[str]:
    if measurement is None:
        return ["Nowhere yet: `nas-edge measure model.onnx` does it."]
    facts = {k: v for k, v in measurement.fingerprint.items() if v not in (None, "", [])}
    shown = [f"- {k}: {', '.join(map(str, v)) if isinstance(v, list) else v}" for k, v in facts.items()]
    return [f"- target: {measurement.target}", f"- samples: {measurement.samples}", *shown]


def _steps(evaluation: Evaluation) -> list[str]:
    if all(step.technique == TRAINING for step in evaluation.steps):
        return ["No technique was on."]
    lines = []
    for step in evaluation.steps:
        changes = [
            _change(step.before.parameters, step.after.parameters, "{:,}", " parameters"),
            _change(step.before.size_bytes, step.after.size_bytes, "{:,}", " bytes"),
            _change(step.before.compressed_bytes, step.after.compressed_bytes, "{:,}", " bytes compressed"),
            _change(step.before.latency_ms, step.after.latency_ms, "{:.3g}", " ms"),
            _change(step.before.accuracy, step.after.accuracy, "{:.4f}", " accuracy"),
        ]
        said = "; ".join([*filter(None, changes), *step.notes])
        undone = f" **Undone**: {step.undone}." if step.undone else ""
        lines.append(f"- {step.technique}, {step.stage}" + (f": {said}." if said else ".") + undone)
    return lines


def _change(before: float | None, after: float | None, form: str, unit: str) -> str:
    """`1,200 to 900 parameters`; nothing where it is not known or stayed."""
    if after is None or before == after:
        return ""
    return (f"{form.format(before)} to " if before is not None else "") + form.format(after) + unit


def _script(data: Mapping[str, Any]) -> list[str]:
    channels, side = data["channels"], data["resolution"]
    return [
        "import numpy as np",
        "import onnxruntime as ort",
        "",
        'session = ort.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])',
        f"images = np.zeros((1, {channels}, {side}, {side}), np.uint8)  # yours, prepared as above",
        'logits = session.run(None, {"input": images.astype(np.float32) / 255})[0]',
        "print(logits.argmax(1))",
    ]
