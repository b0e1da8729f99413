"""A study as a search leaves it, made by hand within a second: what it holds follows from closed forms and a seed."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from optuna.artifacts._upload import ARTIFACTS_ATTR_PREFIX
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from benchmarks.support.bulk import write_trials
from benchmarks.support.instant import tiny_model
from nas_edge.config import StudyConfig
from nas_edge.engine.baseline import stored_baselines
from nas_edge.engine.standing import GIVEN
from nas_edge.latency.heldout import HeldOutError
from nas_edge.latency.model import LatencyModel
from nas_edge.latency.profile import Profile
from nas_edge.records import TRAINING, Audited, Evaluation, Figures, LatencyAudit, Measurement, Prediction, StepRecord
from nas_edge.samplers.history import PARTIAL, UNDONE
from nas_edge.spec import ArchSpec, CandidateSpec, Step
from nas_edge.store.study import BASELINE, REPEAT_OF, START, StoredStudy
from nas_edge.store.tables import prediction_table

KEY, PROFILE = "0123456789abcdef", "profile"
DEVICE = {
    "cpu": "Example CPU @ 2.0 GHz",
    "architecture": "x86_64",
    "instruction_sets": ["avx2", "avx512_vnni"],
    "onnxruntime": "1.31.1",
    "threads": 1,
}
SECONDS = 50  # of each trial, as `write_trials` has it
SIZE = 0.4  # of a file that int8 leaves
USELESS = "neither faster (latency +8.0%) nor smaller (file +0.0%, compressed +0.0%)"
AGAIN, NOTES = "made again without prune", ("2,400 images",)
COSTLY = "accuracy 97.0% -> 88.0% after recovery, more than 5 points lost"
SPACE: dict[str, BaseDistribution] = {
    "mobilenet.width": FloatDistribution(0.25, 1.5),
    "mobilenet.depth": IntDistribution(1, 6),
    "mobilenet.kernel": CategoricalDistribution((3, 5)),
    "prune.enabled": CategoricalDistribution((False, True)),
    "quantize.enabled": CategoricalDistribution((False, True)),
    "distill.enabled": CategoricalDistribution((False, True)),
}
RATIO = FloatDistribution(0.1, 0.6)


def made_config(folder: Path, **changes: Any) -> StudyConfig:
    values = {"study": "made", "out": str(folder), "trials": 60, "techniques": ["distill", "prune", "quantize"]}
    return StudyConfig(**{**values, **changes})


def empty_study(folder: Path, *, classes: Sequence[str] = ("cat", "dog"), **changes: Any) -> StoredStudy:
    """A study without trials, and its random search where the config asks for one."""
    config = made_config(folder, **changes)
    facts = {
        "plugins": {"search space mobilenet": 1},
        "data": {
            "name": "pets",
            "fingerprint": "fedcba",
            "classes": list(classes),
            "channels": 3,
            "resolution": 32,
            "preprocessing": "The shorter side is resized to 32 pixels.",
            "images": [1000, 400, 400],
        },
        "target": {"name": "local", "fingerprint": KEY},
    }
    stored = StoredStudy.create_or_load(config, facts)
    if config.baseline:
        others = {"study": BASELINE.format(study=config.name, number=1), "sampler": "random", "baseline": None}
        beside = config.model_copy(update={**others, "out": str(folder / "random-1"), "storage": config.storage_url})
        StoredStudy.create_or_load(beside, facts)
    return stored


def made_study(
    folder: Path,
    trials: int = 60,
    *,
    seed: int = 0,
    model: onnx.ModelProto | None = None,
    finals: bool = True,
    **changes: Any,
) -> StoredStudy:
    """A study of so many trials: of each ten six are evaluated, one is a repeat, two are stopped, one failed."""
    stored = empty_study(folder, trials=trials, **changes)
    stored.study.set_user_attr("teacher_accuracy", 0.985)
    for index, study in enumerate([stored, *stored_baselines(stored)]):
        _fill(study, trials, seed + index, model or tiny_model(), worse=0.01 * index)
        if finals:
            _finish(study)
    return stored


def _fill(stored: StoredStudy, count: int, seed: int, model: onnx.ModelProto, worse: float = 0.0) -> None:
    rng = np.random.default_rng(seed)
    stored.artifacts.write(f"model-{stored.config.name}", io.BytesIO(model.SerializeToString()))
    trials: list[FrozenTrial] = []
    predictions: list[tuple[str, Prediction]] = []
    for number in range(count):
        trial, prediction = _trial(stored, number, rng, worse)
        trial.number, trial._trial_id = number, number
        trials.append(trial)
        predictions += [prediction] if prediction else []
    write_trials(stored, trials)
    row = {"fingerprint": KEY, "profile": PROFILE, "created": "2026-01-01T00:00:00+00:00"}
    rows = [{**row, "onnx_sha256": sha256, "record": _record(said)} for sha256, said in predictions]
    stored.tables.rows.insert(prediction_table.name, rows)


def _record(said: Prediction) -> str:
    return json.dumps({name: value for name, value in asdict(said).items() if name != "kernels"})


def _params(rng: np.random.Generator) -> tuple[dict[str, Any], dict[str, BaseDistribution]]:
    params: dict[str, Any] = {
        "mobilenet.width": float(rng.uniform(0.25, 1.5)),
        "mobilenet.depth": int(rng.integers(1, 7)),
        "mobilenet.kernel": int(rng.choice([3, 5])),
        **{f"{name}.enabled": bool(rng.random() < 0.5) for name in ("prune", "quantize", "distill")},
    }
    distributions = dict(SPACE)
    if params["prune.enabled"]:
        params["prune.ratio"], distributions["prune.ratio"] = float(rng.uniform(0.1, 0.6)), RATIO
    return params, distributions


def _trial(
    stored: StoredStudy, number: int, rng: np.random.Generator, worse: float
) -> tuple[FrozenTrial, tuple[str, Prediction] | None]:
    params, distributions = _params(rng)
    evaluation = _evaluation(f"{stored.config.name}-{number}", params, rng, worse)
    on = [name for name in ("prune", "distill", "quantize") if params[f"{name}.enabled"]]
    undone = sorted(set(on) - set(evaluation.techniques or ()))
    attrs: dict[str, Any] = {"key": evaluation.key, "techniques": " + ".join(on) or "none"}
    system: dict[str, Any] = {}
    kind, values = number % 10, [evaluation.accuracy, evaluation.latency_ms]
    if kind in (3, 7):
        attrs |= {PARTIAL: [None if kind == 3 else 0.6, evaluation.latency_ms]}
        attrs["why"] = "rejected: too slow before training" if kind == 3 else "rejected: stopped after 25%"
        return _frozen(TrialState.PRUNED, None, params, distributions, attrs, system), None
    if kind == 9:
        attrs["why"] = "failed: RuntimeError: the loss is not finite"
        return _frozen(TrialState.FAIL, None, params, distributions, attrs, system), None
    attrs |= {
        "techniques": " + ".join(evaluation.techniques or ()) or "none",
        "latency_source": "predicted",
        "size_bytes": evaluation.size_bytes,
        "onnx_sha256": evaluation.onnx_sha256,
        **({UNDONE: undone} if undone else {}),
        **({REPEAT_OF: number - 1} if kind == 5 else {}),
    }
    spec = CandidateSpec(
        ArchSpec("mobilenet", 1, {"width": params["mobilenet.width"]}), tuple(Step(name, 1, {}) for name in on)
    )
    recipe = json.dumps({"spec": spec.to_json(), "evaluation": asdict(evaluation)})
    recipe_id, model_id = f"recipe-{stored.config.name}-{number}", f"model-{stored.config.name}"
    stored.artifacts.write(recipe_id, io.BytesIO(recipe.encode()))
    for artifact_id, filename in ((recipe_id, "recipe.json"), (model_id, "model.onnx")):
        meta = {"artifact_id": artifact_id, "filename": filename, "mimetype": "", "encoding": None}
        system[f"{ARTIFACTS_ATTR_PREFIX}{artifact_id}"] = json.dumps(meta)
    limit = stored.config.max_latency_ms
    constraints = None if limit is None else {"latency_ms": evaluation.latency_ms - limit}
    prediction = Prediction(evaluation.latency_ms, evaluation.latency_low_ms, evaluation.latency_high_ms)
    found = _frozen(TrialState.COMPLETE, values, params, distributions, attrs, system, constraints)
    return found, None if kind == 5 else (evaluation.onnx_sha256, prediction)


def _frozen(
    state: TrialState,
    values: list[float] | None,
    params: dict[str, Any],
    distributions: dict[str, BaseDistribution],
    attrs: dict[str, Any],
    system: dict[str, Any],
    constraints: dict[str, float] | None = None,
) -> FrozenTrial:
    trial = create_trial(
        state=state, values=values, params=params, distributions=distributions, user_attrs=attrs, system_attrs=system
    )
    for name, value in (constraints or {}).items():
        trial.set_constraint(name, value)
    return trial


def _evaluation(name: str, params: dict[str, Any], rng: np.random.Generator, worse: float) -> Evaluation:
    """Wide and deep is slow and right. Pruning saves half of its ratio, int8 helps kernels of 3 alone."""
    work = params["mobilenet.width"] * params["mobilenet.depth"] * (1.4 if params["mobilenet.kernel"] == 5 else 1.0)
    latency, size, macs = 0.02 + 0.03 * work, int(20_000 * work), int(1e6 * work)
    accuracy = 0.99 - 0.08 / (0.2 + work) - worse + float(rng.normal(0, 0.004))
    shown = Figures(int(5000 * work), macs, size, int(0.9 * size), latency, "predicted", accuracy)
    blank = Figures(shown.parameters, macs, size, int(0.9 * size), latency, "predicted", None)
    steps = [StepRecord(TRAINING, "train", 12.0, blank, shown, ("6,000 images",))]
    acting: list[str] = []
    if params["prune.enabled"]:
        ratio = params["prune.ratio"]
        why = COSTLY if ratio > 0.45 else None
        kept = 1 - ratio / 2
        cut = _scaled(shown, kept, kept, accuracy - ratio / 3)
        again = _scaled(cut, 1.0, 1.0, accuracy - ratio / 50)
        steps.append(StepRecord("prune", "structure", 1.5, shown, cut, (f"kept {kept:.0%} of the channels",), why))
        steps.append(StepRecord(TRAINING, "recover", 6.0, cut, again, NOTES, why and AGAIN))
        if why is None:
            shown, acting = again, ["prune"]
    if params["distill.enabled"]:
        steps.append(StepRecord("distill", "objective", 0.0))
        acting.append("distill")
    if params["quantize.enabled"]:
        slow = params["mobilenet.kernel"] == 5
        cut = _scaled(shown, 1.08 if slow else 0.7, 1.0 if slow else SIZE, (shown.accuracy or 0.0) - 0.002)
        steps.append(StepRecord("quantize", "graph", 0.8, shown, cut, (), USELESS if slow else None))
        if not slow:
            shown = cut
            acting.append("quantize")
    assert shown.latency_ms and shown.size_bytes and shown.accuracy and shown.parameters
    return Evaluation(
        key=name,
        accuracy=min(1.0, max(0.0, shown.accuracy)),
        latency_ms=shown.latency_ms,
        latency_low_ms=0.95 * shown.latency_ms,
        latency_high_ms=1.06 * shown.latency_ms,
        latency_source="predicted",
        size_bytes=shown.size_bytes,
        parameters=shown.parameters,
        macs=shown.macs,
        onnx_sha256=name,
        seconds={"total": float(SECONDS)},
        steps=tuple(steps),
        techniques=tuple(acting),
    )


def _scaled(figures: Figures, latency: float, size: float, accuracy: float) -> Figures:
    def times(value: int | None, factor: float) -> int | None:
        return None if value is None else int(value * factor)

    return Figures(
        times(figures.parameters, size),
        times(figures.macs, min(1.0, size) if size != SIZE else 1.0),
        times(figures.size_bytes, size),
        times(figures.compressed_bytes, size),
        None if figures.latency_ms is None else figures.latency_ms * latency,
        figures.latency_source,
        accuracy,
    )


def _finish(stored: StoredStudy) -> None:
    """What the end of a search adds: tests, measurements, an audit, and the profile that predicted."""
    name, front = stored.config.name, stored.front()
    for trial in front:
        accuracy, latency_ms = trial.values
        stored.tables.add_final(
            name,
            trial.number,
            {
                "final": False,
                "retrained": False,
                "accuracy": accuracy,
                "test_accuracy": accuracy - 0.005,
                "test_images": 400,
                "predicted_ms": latency_ms,
                "predicted_low_ms": 0.95 * latency_ms,
                "predicted_high_ms": 1.06 * latency_ms,
                "size_bytes": trial.user_attrs["size_bytes"],
                "macs": 1,
                "parameters": 1,
                "techniques": trial.user_attrs["techniques"],
                "onnx_sha256": trial.user_attrs["onnx_sha256"],
            },
        )
        _measure(stored, trial, 1.04)
    others = [t for t in stored.evaluated() if t.number not in {f.number for f in front}][:8]
    for trial in others:
        _measure(stored, trial, 1.02)
    sample, members = (
        tuple(Audited(t.number, t.values[1], factor * t.values[1]) for t in trials)
        for trials, factor in ((others, 1.02), (front, 1.04))
    )
    stored.tables.add_audits(name, [LatencyAudit(stored.finished(), PROFILE, 0.03, 0.08, 80, sample, members)])
    error = HeldOutError(0.03, 0.08, 0.7, 0.95, 80)
    profile = Profile("local", DEVICE, LatencyModel(0.1, {}), error, 0.01, 1.0, 0.1, "made")
    stored.tables.add_calibration(KEY, "made", profile.to_json())


def _measure(stored: StoredStudy, trial: FrozenTrial, factor: float) -> None:
    ms = factor * trial.values[1]
    found = Measurement(ms, 1.1 * ms, 0.98 * ms, 1.03 * ms, 300, "local", DEVICE)
    stored.tables.add_measurement(trial.user_attrs["onnx_sha256"], KEY, found)


Found = Sequence[tuple[float, float]]


def hand_made(folder: Path, found: Found, random: Found = (), **changes: Any) -> StoredStudy:
    """A study of such accuracies and latencies in ms, and its random search; nothing else is known of a candidate.

    The first of a compression is the model as it was given.
    """
    stored = empty_study(folder, **changes)
    for study, values in zip([stored, *stored_baselines(stored)], (found, random), strict=False):
        _plain(study, values)
    return stored


def _plain(stored: StoredStudy, found: Found) -> None:
    trials = []
    for number, (accuracy, latency_ms) in enumerate(found):
        attrs = {"key": str(number), "techniques": "none", "latency_source": "measured", "size_bytes": 1000}
        limit = stored.config.max_latency_ms
        constraints = None if limit is None else {"latency_ms": latency_ms - limit}
        attrs["onnx_sha256"] = f"{stored.config.name}-{number}"
        if stored.config.goals is not None and number == 0:
            attrs[START] = GIVEN
        trial = _frozen(TrialState.COMPLETE, [accuracy, latency_ms], {}, {}, attrs, {}, constraints)
        trial.number = trial._trial_id = number
        trials.append(trial)
    if trials:
        write_trials(stored, trials)
