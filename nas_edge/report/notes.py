"""The notes of a study and of its trials, in Markdown: what Optuna Dashboard shows beside its own plots."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from nas_edge.config import StudyConfig
from nas_edge.records import Evaluation, Measurement
from nas_edge.report.audit import error_line, latency_audit
from nas_edge.report.baseline import baseline_of, describe
from nas_edge.report.compression import Compression
from nas_edge.report.front import front_rows
from nas_edge.report.markdown import plain, table
from nas_edge.report.steps import FIGURES, PREDICTED, step_rows
from nas_edge.report.summary import counts
from nas_edge.store.study import REPEAT_OF, StoredStudy

Link = Callable[[int], str]  # of a trial's number: where its page is

NO_OTHER = "no other trial is better in something and as good in everything else"
KEPT = "\u00a0"  # a space at which no line is broken


def trial_note(trial: FrozenTrial, link: Link) -> str:
    """What a trial without a model of its own came to."""
    why = plain(trial.user_attrs.get("why", ""))
    if REPEAT_OF in trial.user_attrs:
        return f"The same candidate as {linked(trial.user_attrs[REPEAT_OF], link)}, whose results it repeats."
    if trial.state is TrialState.PRUNED:
        reason = why.removeprefix("rejected\\: ")
        return f"**Rejected** before its training was done: {reason}." if why else "**Rejected.**"
    if trial.user_attrs.get("interrupted"):
        return f"**Interrupted**: {why}. Its parameters were queued again, so nothing of the search is lost."
    if trial.state is TrialState.FAIL:
        return f"**Failed**: {why}." if why else "**Failed.**"
    return "**Running**: its note is written when it is finished." if trial.state is TrialState.RUNNING else ""


def evaluated_note(
    number: int,
    evaluation: Evaluation,
    *,
    study: str,
    picture: str,
    final: Mapping[str, Any] | None = None,
    measurement: Measurement | None = None,
) -> str:
    """The note of an evaluated trial; `picture` is the URL of its picture."""
    blocks = [
        table(("", ""), _figures(evaluation, final, measurement)),
        _doubt(measurement),
        "### What each step changed",
        f"![What each step changed]({picture})",
        _steps(evaluation),
        "\n".join(_remarks(evaluation)),
        "### Take it with you",
        f"`nas-edge export {study} {number} -o DIR` writes the model, its recipe and a card that says what it is."
        " The files below are as they came out of the search"
        + (", and `final-` ones were trained for longer after it." if final and final["final"] else "."),
    ]
    return "\n\n".join(block for block in blocks if block)


def _figures(
    evaluation: Evaluation, final: Mapping[str, Any] | None, measurement: Measurement | None
) -> list[tuple[str, str]]:
    found = interval(evaluation.latency_ms, evaluation.latency_low_ms, evaluation.latency_high_ms)
    rows = [("**accuracy**, validation images", f"{evaluation.accuracy:.2%}")]
    if final is not None:
        rows.append((f"**accuracy**, {final['test_images']:,} test images", f"{final['test_accuracy']:.2%}"))
    rows.append((f"**latency**, {evaluation.latency_source}", found))
    if measurement is not None and evaluation.latency_source == "predicted":
        measured = interval(measurement.p50_ms, measurement.low_ms, measurement.high_ms)
        rows.append(("**latency**, measured", measured))
    rows.append(("**size** of the ONNX file", f"{evaluation.size_bytes:,} bytes"))
    rows.append(("parameters", f"{evaluation.parameters:,}"))
    rows.append(("multiply-accumulates", "not known" if evaluation.macs is None else f"{evaluation.macs:,}"))
    if "total" in evaluation.seconds:
        rows.append(("found in", f"{evaluation.seconds['total']:.0f} s"))
    return rows


def _doubt(measurement: Measurement | None) -> str:
    if measurement is None or measurement.unstable_because is None:
        return ""
    return f"**The measurement may be unstable**: {plain(measurement.unstable_because)}."


def _steps(evaluation: Evaluation) -> str:
    """The steps as a table, without what deflate would leave of the file."""
    titles = [title for title, _, _ in FIGURES]
    left_out = titles.index("compressed")
    del titles[left_out]
    rows = []
    for number, technique, stage, *figures, seconds in step_rows(asdict(evaluation)["steps"]):
        del figures[left_out]
        rows.append([plain(cell).replace(" ", KEPT) for cell in (number, f"{technique}, {stage}", *figures, seconds)])
    said = f"`{PREDICTED}` stands before a latency that was predicted; all others were measured."
    return f"{table(('', 'step', *(f'>{title}' for title in titles), '>seconds'), rows)}\n\n{said}"


def _remarks(evaluation: Evaluation) -> list[str]:
    """What each step said, and why those marked with an x were undone."""
    lines = []
    for number, step in enumerate(evaluation.steps, start=1):
        said = [f"**undone**, {plain(step.undone)}"] if step.undone else []
        said += map(plain, step.notes)
        if said:
            lines.append(f"- **{number}{'x' if step.undone else ''} {plain(step.technique)}**: {'; '.join(said)}")
    return lines


def study_note(stored: StoredStudy, link: Link) -> str:
    """The front with links to its trials, how far it can be trusted, the data, the device and the settings."""
    baseline = baseline_of(stored)
    trust = [f"- error of the latency predictions: {plain(error_line(latency_audit(stored)))}"]
    if baseline is not None:
        trust.append(f"- {plain(describe(baseline))}")
    blocks = [
        "### The best trade-offs",
        _front(stored, link),
        "\n".join(trust),
        _goals(stored),
        "### The study",
        _facts(study_facts(stored)),
        "### The device",
        _facts(device_of(stored)) or "Not known yet.",
        "### The settings that differ from the defaults",
        "\n".join(["```toml", *_settings(stored.config), "```"]),
    ]
    return "\n\n".join(block for block in blocks if block)


def study_facts(stored: StoredStudy) -> dict[str, str]:
    """What a study is, in a few short lines."""
    config, attrs = stored.config, stored.study.user_attrs
    data, teacher = attrs["data"], attrs.get("teacher_accuracy")
    train, validation, test = data["images"]
    state = {label: n for label, n in counts(stored).items() if n and not label.startswith("with ")}
    facts = {
        "data": f"{data['name']}, {len(data['classes'])} classes, {data['resolution']} x {data['resolution']} pixels",
        "images": f"{train:,} to train, {validation:,} to validate, {test:,} to test",
        "searched": config.model or f"the space {config.space}",
        "techniques": ", ".join(config.techniques or ()) or "none",
        "target": str(attrs["target"]["name"]),
        "objectives": ", ".join(config.objectives),
        "latency budget": "none" if config.max_latency_ms is None else f"{config.max_latency_ms:g} ms",
        "sampler": config.sampler,
        "trials": ", ".join(f"{n} {label}" for label, n in state.items()) + f"; {config.trials} wanted",
    }
    return facts if teacher is None else {**facts, "teacher": f"{teacher:.2%} on validation images"}


def _facts(facts: Mapping[str, str]) -> str:
    return table(("", ""), [(plain(name), plain(value)) for name, value in facts.items()]) if facts else ""


def device_of(stored: StoredStudy) -> dict[str, str]:
    """What is known of the device that the study is for; nothing before it was calibrated."""
    facts = stored.tables.device(str(stored.study.user_attrs["target"]["fingerprint"]))
    return {
        name.replace("_", " "): ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        for name, value in facts.items()
        if value not in (None, "", []) and name != "load"  # that of a moment
    }


def _front(stored: StoredStudy, link: Link) -> str:
    rows = front_rows(stored)
    if not rows:
        return "No finished trial meets the limits yet."
    cells = [
        (
            linked(row.number, link),
            f"{row.accuracy:.2%}" + ("\\*" if row.trained_longer else ""),
            "-" if row.test_accuracy is None else f"{row.test_accuracy:.2%}",
            "-" if row.predicted_ms is None else f"{row.predicted_ms:.3f}",
            "-"
            if row.measured_ms is None
            else f"{row.measured_ms:.3f} ({row.measured_low_ms:.3f} to {row.measured_high_ms:.3f})"
            + ("" if row.within_budget else ", over the budget"),
            f"{row.size_bytes / 1000:.1f}",
            plain(row.techniques),
        )
        for row in rows
    ]
    head = ("trial", ">accuracy", ">test", ">predicted ms", ">measured ms", ">size kB", "techniques")
    said = f"Of each: {NO_OTHER}."
    if any(row.trained_longer for row in rows):
        said += " \\* trained for longer after the search."
    return f"{said}\n\n{table(head, cells)}"


def _goals(stored: StoredStudy) -> str:
    """What a compression is to reach, and what its best model reaches; nothing for a search."""
    found = Compression.of(stored)
    if found is None:
        return ""
    rows = [
        (
            plain(goal.name),
            f"{goal.wanted:g} {goal.unit}",
            f"{goal.reached:.3g} {goal.unit}",
            "yes" if goal.met else "no",
        )
        for goal in found.goals
    ]
    head = table(("goal", "unit", ">wanted", ">reached", "met"), rows)
    return f"### The goals, and what trial {found.best.number} reaches\n\n{head}"


def interval(ms: float, low_ms: float, high_ms: float) -> str:
    return f"{ms:.3g} ms ({low_ms:.3g} to {high_ms:.3g})"


def linked(number: int, link: Link) -> str:
    return f"[trial {number}]({link(number)})"


def _settings(config: StudyConfig) -> list[str]:
    """The settings in the words of a study file."""
    where = {"study", "storage", "out", "techniques"}
    values = {"space": config.space, "data": config.data, "target": config.target, "trials": config.trials}
    values |= config.model_dump(exclude_defaults=True, exclude=where, mode="json")
    lines = []
    for name, value in sorted(values.items(), key=lambda item: isinstance(item[1], dict)):
        if isinstance(value, dict):
            lines += ["", f"[{name}]", *(f"{json.dumps(key)} = {json.dumps(one)}" for key, one in value.items())]
        else:
            lines.append(f"{name} = {json.dumps(value)}")
    return [line.replace("`", "'") for line in lines]  # a fence would end the block
