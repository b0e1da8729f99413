"""The card: what a model is, for whom it is meant, how it was made, and what was measured, ready for a repository."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from nas_edge import __version__
from nas_edge.engine.loop import techniques_of
from nas_edge.records import Evaluation, Measurement
from nas_edge.report.audit import error_line
from nas_edge.report.cells import RECORD, record_cells
from nas_edge.report.facts import of_device
from nas_edge.report.front_matter import front_matter
from nas_edge.report.markdown_text import plain, table
from nas_edge.spec import CandidateSpec

Z95 = 1.959964  # standard errors in a 95 % interval
MOST_CLASSES = 50
KIND = {1: "grey", 3: "colour"}


@dataclass(frozen=True)
class Facts:
    """What is known of an exported model. `final` is its row of the finals, `study` what its recipe says of the study,
    `exact_int8` whether the file needs exact sums of 8-bit products, `ort_bytes` the size of its `model.ort`, where it
    was asked for."""

    spec: CandidateSpec
    evaluation: Evaluation
    final: Mapping[str, Any]
    study: Mapping[str, Any]
    measurement: Measurement | None = None
    audit: dict[str, Any] | None = None
    exact_int8: bool = False
    ort_bytes: int | None = None

    @property
    def data(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.study["data"]
        return found


def card(facts: Facts) -> str:
    """The card in Markdown behind its front matter. Names from outside are nothing but text in it."""
    study, evaluation = facts.study, facts.evaluation
    head = front_matter(
        facts.spec,
        evaluation.techniques or (),
        final=facts.final,
        study=study,
        measurement=facts.measurement,
        size_bytes=evaluation.size_bytes,
    )
    parts = (
        ("", [_said(facts)]),
        ("", table(("", ""), [(name, plain(value)) for name, value in _rows(facts)])),
        ("Intended use", _use(facts)),
        ("Run it", _run(facts)),
        ("Input and output", _interface(facts.data)),
        ("How it was made", _made(facts)),
        ("Where it was measured", _device(facts.measurement)),
        ("Limits", _limits(facts)),
    )
    lines = [*head, "", f"# {plain(study['name'])}, trial {study['trial']}", ""]
    for title, part in parts:
        lines += [*([f"## {title}", ""] if title else []), *part, ""]
    return "\n".join(lines)


def _said(facts: Facts) -> str:
    data, side = facts.data, facts.data["resolution"]
    kind = KIND.get(data["channels"], f"{data['channels']}-channel")
    return (
        f"Tells {len(data['classes'])} classes apart in {kind} images of {side}x{side} pixels. An ONNX file of "
        f"{facts.evaluation.size_bytes:,} bytes that runs in ONNX Runtime on a CPU, found and compressed by nas-edge "
        f"{__version__}."
    )


def _rows(facts: Facts) -> list[tuple[str, str]]:
    final, study, evaluation = facts.final, facts.study, facts.evaluation
    low, high = wilson(final["test_accuracy"], final["test_images"])
    return [
        (
            "Accuracy on the test split",
            f"{final['test_accuracy']:.4f} ({final['test_images']:,} images, in ONNX Runtime; "
            f"95 % interval {low:.4f} to {high:.4f})",
        ),
        ("Accuracy on the validation split", f"{evaluation.accuracy:.4f}"),
        ("Latency, measured", _measured(facts.measurement)),
        ("Latency, predicted", _predicted(final)),
        ("Error of the predictions in this search", error_line(facts.audit)),
        ("Latency budget", "none" if study["max_latency_ms"] is None else f"{study['max_latency_ms']:g} ms"),
        ("Size of the file", f"{evaluation.size_bytes:,} bytes"),
        ("Parameters", f"{evaluation.parameters:,}"),
        ("Multiply-accumulates", "not known" if evaluation.macs is None else f"{evaluation.macs:,} for one image"),
        ("Techniques", techniques_of(facts.spec, evaluation)),
    ]


def wilson(share: float, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share of so many."""
    middle = share + Z95**2 / (2 * count)
    spread = Z95 * math.sqrt(share * (1 - share) / count + Z95**2 / (4 * count**2))
    scale = 1 + Z95**2 / count
    return max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)


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


def _use(facts: Facts) -> list[str]:
    classes = facts.data["classes"]
    shown = ", ".join(map(str, classes[:MOST_CLASSES]))
    more = f" and {len(classes) - MOST_CLASSES} more, which recipe.json lists" if len(classes) > MOST_CLASSES else ""
    return [
        f"To classify images like those of the data set {plain(facts.data['name'])} into one of its classes, on "
        f"devices like the one it was measured on: {plain(shown)}{more}.",
        "",
        "An image of anything else is put into one of these classes too, and may be with a high probability. Whether "
        "it is good enough for decisions about people, or where a mistake costs much, is to be shown on data of that "
        "use.",
    ]


def _run(facts: Facts) -> list[str]:
    channels, side = facts.data["channels"], facts.data["resolution"]
    lines = [
        "`run.py`, beside this card, reads images as those were that the model was trained and tested on:",
        "",
        "```sh",
        "pip install onnxruntime numpy pillow",
        "python run.py IMAGE",
        "```",
        "",
        "From Python, with images that are prepared as below:",
        "",
        "```python",
        "import numpy as np",
        "import onnxruntime as ort",
        "",
        'session = ort.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])',
        f"images = np.zeros((1, {channels}, {side}, {side}), np.uint8)  # yours, prepared as below",
        'logits = session.run(None, {"input": images.astype(np.float32) / 255})[0]',
        "print(logits.argmax(1))",
        "```",
    ]
    if facts.ort_bytes is not None:
        lines += ["", _ort(facts.ort_bytes, facts.evaluation.size_bytes)]
    return lines


def _ort(ort_bytes: int, size_bytes: int) -> str:
    larger = " It is larger: the format takes more, and weights packed in `model.onnx` lie unpacked in it."
    return (
        f"`model.ort` ({ort_bytes:,} bytes) is the same model in the ORT format, for mobile and reduced builds of ONNX "
        f"Runtime {version('onnxruntime')} or later; `model.required_operators.config` names the operators that such a "
        f"build needs (`--include_ops_by_config`).{larger if ort_bytes > 1.2 * size_bytes else ''} It is optimised for "
        "no particular CPU, and its latency was not measured: on x86-64 a float model in it can take twice as long as "
        "`model.onnx`, which ONNX Runtime optimises for the CPU when it loads."
    )


def _interface(data: Mapping[str, Any]) -> list[str]:
    shape = f"[batch, {data['channels']}, {data['resolution']}, {data['resolution']}]"
    return [
        f"- `input`: float32 {shape}, pixels divided by 255. Normalisation and resizing are inside the model.",
        f"- Images: {plain(data['preprocessing'])}",
        f"- `logits`: float32 [batch, {len(data['classes'])}], in the order of the classes. Their softmax is the "
        "model's probability of each; it was not calibrated.",
    ]


def _made(facts: Facts) -> list[str]:
    study, data, spec = facts.study, facts.data, facts.spec
    train, validation, test = data["images"]
    config = study["config"]
    source = f"model {config['model']}" if config.get("model") else f"search space {spec.arch.space}"
    params = ", ".join(f"{name} = {value}" for name, value in spec.arch.params.items())
    longer = " It was trained for longer after the search." if study["trained_longer"] else ""
    return [
        f"Trained on {train:,} images of {plain(data['name'])} (fingerprint {plain(data['fingerprint'])}), chosen by "
        f"{validation:,} others, and tested once on {test:,} that neither training nor choosing saw.{longer}",
        "",
        f"Its architecture is of the {plain(source)}" + (f": {plain(params)}." if params else "."),
        "",
        "What each step did, with the change in brackets:",
        "",
        *table(RECORD, [[plain(cell) for cell in row] for row in record_cells(facts.evaluation.steps)]),
        "",
        "`recipe.json` holds all that is needed to make it again: the decisions, the study's configuration and the "
        "versions of the libraries.",
    ]


def _device(measurement: Measurement | None) -> list[str]:
    if measurement is None:
        return ["Nowhere yet: `nas-edge measure model.onnx` does it."]
    shown = [f"- {plain(name)}: {plain(value)}" for name, value in of_device(measurement.fingerprint).items()]
    return [f"- target: {plain(measurement.target)}", f"- samples: {measurement.samples}, of one image each", *shown]


def _limits(facts: Facts) -> list[str]:
    lines = [
        "- The accuracy is that of images like those of the test split. Other cameras, light or classes change it.",
        "- The latency is that of one image at a time on the CPU above, with its threads and its ONNX Runtime. On "
        "another CPU another model of the same search may be the faster: `nas-edge measure model.onnx` tells.",
        "- Nothing was done against images that are made to mislead it, and no bias between groups was looked for.",
    ]
    if facts.exact_int8:
        lines.append(
            "- Its 8-bit weights use their whole range. On an x86 CPU without VNNI, ONNX Runtime's sums of 8-bit "
            "products may saturate, and the accuracy be lower: for such a CPU, search with it as the target."
        )
    if facts.measurement is not None and facts.measurement.unstable_because:
        lines.append("- The measured latency may be unstable, for the reason that stands beside it above.")
    return lines
