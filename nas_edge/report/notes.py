"""The notes of a study and of its trials, in Markdown: what Optuna Dashboard shows beside its own plots."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from nas_edge.config import StudyConfig
from nas_edge.files import toml_value
from nas_edge.records import Evaluation, Measurement
from nas_edge.report import words
from nas_edge.report.audit import error_line, latency_audit
from nas_edge.report.baseline import baseline_of, describe
from nas_edge.report.cells import FRONT, STEPS, front_cells, step_cells
from nas_edge.report.compression import Compression
from nas_edge.report.facts import CPU, facts
from nas_edge.report.front import FrontRow
from nas_edge.report.markdown_text import plain, table
from nas_edge.report.summary import counts
from nas_edge.store.study import REPEAT_OF, StoredStudy
from nas_edge.store.tables import trained_longer

# What of the facts stands among the attributes of the study, where there is little room.
SHORT = (
    *("data set", "search space", "techniques", CPU, "target", "objectives", "latency limit", "sampler"),
    *("image", "images for training", "images for validation", "images for the test"),
)

Link = Callable[[int], str]  # of a trial's number: where its page is

NO_OTHER = "no other trial is better in something and as good in everything else"
MEANT = (
    "Accuracy is that on the *validation* images, by which the search chose, and on the *test* images, which it never "
    "saw; latency is that of one image, and in brackets what it lies between with 95% confidence."
)
UNSTEADY = "A latency that *may be wrong* was measured while the device was not steady: the note of the trial says why."
BEATEN = "One that is *beaten by* another was not in the search: what was trained and measured at its end changed that."
KEPT = "\u00a0"  # a space at which no line is broken
GAP = 2 * KEPT  # before a column: the dashboard sets them side by side without any


def trial_note(trial: FrozenTrial, link: Link) -> str:
    """What a trial without a model of its own came to."""
    why = plain(trial.user_attrs.get("why", "").removeprefix("rejected: "))
    if REPEAT_OF in trial.user_attrs:
        return f"The same candidate as {linked(trial.user_attrs[REPEAT_OF], link)}, whose results it repeats."
    if trial.state is TrialState.PRUNED:
        return f"**Rejected** before its training was done: {why}." if why else "**Rejected.**"
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
        _table((f"Trial {number}", ""), _figures(evaluation, final, measurement)),
        _doubt(measurement),
        "### What each step changed",
        f"![What each step changed]({picture})",
        _table(STEPS, [[plain(c).replace(" ", KEPT) for c in row] for row in step_cells(evaluation.steps)]),
        "\n".join(_remarks(evaluation)),
        "### Take it with you",
        f"`nas-edge export {study} {number} -o DIR` writes the model, its recipe and a card that says what it is."
        " The files below are as they came out of the search"
        + (", and `final-` ones were trained for longer after it." if trained_longer(final) else "."),
    ]
    return "\n\n".join(block for block in blocks if block)


def _figures(
    evaluation: Evaluation, final: Mapping[str, Any] | None, measurement: Measurement | None
) -> list[tuple[str, str]]:
    found = words.interval(evaluation.latency_ms, evaluation.latency_low_ms, evaluation.latency_high_ms)
    longer = ", after longer training" if trained_longer(final) else ""
    rows = [(f"**accuracy**, validation images{longer}", words.percent(evaluation.accuracy, 2))]
    if final is not None:
        rows.append((f"**accuracy**, {final['test_images']:,} test images", words.percent(final["test_accuracy"], 2)))
    doubt = f" (unstable: {plain(evaluation.latency_unstable_because)})" if evaluation.latency_unstable_because else ""
    rows.append((f"**latency** of one image, {evaluation.latency_source}", found + doubt))
    if measurement is not None and measurement.p50_ms != evaluation.latency_ms:
        rows.append(("**latency** of one image, measured at the end", measured(measurement)))
    rows.append(("**size** of the ONNX file", words.size(evaluation.size_bytes)))
    rows.append(("parameters", words.count(evaluation.parameters)))
    rows.append(("multiply-adds", "not known" if evaluation.macs is None else words.count(evaluation.macs)))
    if "total" in evaluation.seconds:
        rows.append(("found in", f"{evaluation.seconds['total']:.0f} s"))
    return rows


def _doubt(measurement: Measurement | None) -> str:
    if measurement is None or measurement.unstable_because is None:
        return ""
    return f"**The measurement may be unstable**: {plain(measurement.unstable_because)}."


def _remarks(evaluation: Evaluation) -> list[str]:
    """What each step said, and why it was undone."""
    lines = []
    for number, step in enumerate(evaluation.steps, start=1):
        said = [f"**undone**, {plain(step.undone)}"] if step.undone else []
        said += map(plain, step.notes)
        if said:
            lines.append(f"- **{number}. {plain(step.technique)}**: {'; '.join(said)}")
    return lines


def study_note(stored: StoredStudy, front: Sequence[FrontRow], link: Link) -> str:
    """The front with links to its trials, how far it can be trusted, the data, the device and the settings."""
    baseline = baseline_of(stored)
    trust = [f"- error of the latency predictions: {plain(error_line(latency_audit(stored)))}"]
    if baseline is not None:
        trust.append(f"- {plain(describe(baseline))}")
    blocks = [
        "### The best trade-offs",
        _front(front, link),
        "\n".join(trust),
        _goals(stored),
        *(f"{KEPT}\n\n{_facts(title, values)}" for title, values in facts(stored).items() if values),
        "### The settings that differ from the defaults",
        "\n".join(["```toml", *_settings(stored.config), "```"]),
    ]
    return "\n\n".join(block for block in blocks if block)


def study_facts(stored: StoredStudy) -> dict[str, str]:
    """What a study is, in a few short lines."""
    known = {title: value for part in facts(stored).values() for title, value in part.items()}
    state = {label: n for label, n in counts(stored).items() if n and not label.startswith("with ")}
    shown = {"trials": ", ".join(f"{n} {label}" for label, n in state.items()) + f"; {stored.config.trials} wanted"}
    shown |= {title: known[title] for title in SHORT if title in known}
    teacher = stored.study.user_attrs.get("teacher_accuracy")
    return shown if teacher is None else {**shown, "teacher": f"{words.percent(teacher, 2)} on validation images"}


def _facts(title: str, values: Mapping[str, str]) -> str:
    return _table((title, ""), [(plain(name).replace(" ", KEPT), plain(value)) for name, value in values.items()])


def _front(rows: Sequence[FrontRow], link: Link) -> str:
    if not rows:
        return "No finished trial meets the limits yet."
    cells = [(linked(row.number, link), *map(plain, front_cells(row)[1:])) for row in rows]
    said = [f"Of each: {NO_OTHER}.", MEANT]
    if any(row.unstable_because for row in rows):
        said.append(UNSTEADY)
    if any(row.beaten_by is not None for row in rows):
        said.append(BEATEN)
    return f"{' '.join(said)}\n\n{_table(FRONT, cells)}"


def _goals(stored: StoredStudy) -> str:
    """What a compression is to reach, and what its best model reaches; nothing for a search."""
    found = Compression.of(stored)
    if found is None:
        return ""
    rows = [
        (
            plain(goal.name),
            words.asked(goal.name, goal.wanted, goal.unit),
            words.amount(goal.reached, goal.unit),
            "yes" if goal.met else "no",
        )
        for goal in found.goals
    ]
    shown = _table(("goal", ">wanted", ">reached", "met"), rows)
    return f"### The goals, and what trial {found.best.number} reaches\n\n{shown}"


def measured(found: Measurement) -> str:
    return words.interval(found.p50_ms, found.low_ms, found.high_ms)


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
            lines += ["", f"[{name}]", *(f"{_key(key)} = {toml_value(one)}" for key, one in value.items())]
        else:
            lines.append(f"{name} = {toml_value(value)}")
    return [line.replace("`", "'") for line in lines]  # a fence would end the block


def _key(name: str) -> str:
    """As TOML has it."""
    return name if re.fullmatch(r"[\w-]+", name, re.ASCII) else json.dumps(name)


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head, rule, *lines = table(titles, rows)
    return "\n".join([_spaced(head), rule, *map(_spaced, lines)])


def _spaced(line: str) -> str:
    return line.replace(" | ", f" | {GAP}")
