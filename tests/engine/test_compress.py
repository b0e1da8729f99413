"""A compression: the given model first, its techniques' defaults next, and an end as soon as the goals are met."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import optuna
import pytest
import torch
from optuna.trial import FrozenTrial, TrialState

from nas_edge import StudyMismatch, UserError
from nas_edge.engine.given import WEIGHTS_FILE, _ready, learned_by_heart
from nas_edge.engine.progress import Progress
from nas_edge.engine.recipes import read_recipe
from nas_edge.engine.session import Session
from nas_edge.engine.standing import FEW, GIVEN, REJECTED, Standing, Standings, hopeless, mark_rejected
from nas_edge.engine.starts import enqueue_starts, starting_sets
from nas_edge.goals import DROP, LATENCY, REDUCTION, SPEEDUP, Goals, Known, all_met, judge, total_excess
from nas_edge.models import load_model
from nas_edge.plugins import Registry
from nas_edge.report.compression import run_compression
from nas_edge.report.export import export_trial
from nas_edge.steps import order_techniques
from nas_edge.store.locate import locate
from nas_edge.store.study import GOAL, REPEAT_OF, START, StoredStudy
from nas_edge.train.trainer import ImageTrainer
from nas_edge_plugins.qat import Qat

from ..compressions import MODEL, compressed, install_network, quick_config, train_weights
from ..studies import Said, found, opened, sha256


@pytest.fixture(scope="module")
def weights() -> dict[str, bytes]:
    """The trained network's state dict; made by the first test that asks."""
    return {}


@pytest.fixture
def here(tiny: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: dict[str, bytes]) -> Iterator[Path]:
    """The current folder, with the user's network and its weights."""
    install_network(tmp_path)
    monkeypatch.chdir(tmp_path)
    if not weights:
        weights["file"] = train_weights(tiny, tmp_path).read_bytes()
    (tmp_path / "weights.pt").write_bytes(weights["file"])
    yield tmp_path
    sys.modules.pop("small_network", None)


TRAINED = f"{MODEL}:weights.pt"


def recipe(stored: StoredStudy, trial: FrozenTrial) -> Any:
    return read_recipe(stored, trial, final=False)


# --- goals


def test_how_a_candidate_stands_to_goals() -> None:
    goals = Goals(max_drop=0.5, max_latency_ms=4.0, min_speedup=2.0, min_size_reduction=80.0)
    given = Known(0.93, 10.0, 1_000_000)
    judged = {goal.name: goal for goal in judge(goals, given, Known(0.92, 5.0, 150_000))}
    assert list(judged) == [DROP, LATENCY, SPEEDUP, REDUCTION]
    assert judged[DROP].reached == pytest.approx(1.0) and judged[DROP].excess == pytest.approx(0.5)
    assert judged[DROP].missing == pytest.approx(0.5) and not judged[DROP].met
    assert judged[LATENCY].excess == pytest.approx(0.25) and judged[LATENCY].missing == pytest.approx(1.0)
    assert judged[SPEEDUP].reached == pytest.approx(2.0) and judged[SPEEDUP].met
    assert judged[REDUCTION].reached == pytest.approx(85.0) and judged[REDUCTION].missing == 0.0
    assert judged[REDUCTION].excess == pytest.approx(-0.25)
    assert total_excess(judged.values()) == pytest.approx(0.75)
    assert all_met(judge(goals, given, Known(0.925, 4.0, 200_000)))  # each at its limit
    assert Goals().max_drop == 0.5 and not Goals().end and Goals(min_speedup=1.5).end


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_drop": -1.0}, "--max-drop is -1.0: input should be greater than or equal to 0"),
        ({"min_size_reduction": 100.0}, "--min-size-reduction is 100.0: input should be less than 100"),
        ({"min_speedup": 1.0}, "--min-speedup is 1.0: input should be greater than 1"),
        ({"max_latency_ms": math.nan}, "--max-latency-ms is nan: "),
        ({"trials": 0}, "--trials is 0: "),
        ({"workers": 2}, "takes one worker"),
    ],
)
def test_goals_that_make_no_sense(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        quick_config(tmp_path, **options)
    assert message in str(error.value)


def test_the_first_trials(tiny: Registry) -> None:
    named = [tiny.techniques[name] for name in ("prune", "low_rank", "quantize", "distill")]
    ordered = order_techniques([*named, Qat()])
    assert list(starting_sets(ordered)) == [
        (),
        ("quantize",),
        ("prune",),
        ("low_rank",),
        ("qat",),
        ("prune", "quantize"),
        ("low_rank", "quantize"),
        ("prune", "distill", "quantize"),
        ("low_rank", "distill", "quantize"),
        ("prune", "distill", "qat"),
        ("low_rank", "distill", "qat"),
    ]


# --- runs


def test_goals_that_are_met_end_it(tiny: Registry, here: Path) -> None:
    """Quantization alone makes the file 60 % smaller: the second trial, after the model as it was given."""
    heard = Said()
    config = quick_config(here / "run", TRAINED, min_size_reduction=50.0, min_speedup=1.5, max_drop=2.0, trials=9)
    done = compressed(config, tiny, heard)
    stored = done.stored
    assert done.met and stored.finished() == 2 and "trial 1 meets all goals" in heard.said
    assert (done.baseline.number, done.best.number, done.best.techniques) == (0, 1, "quantize")
    assert done.best.latency_source == done.baseline.latency_source == "measured"
    goals = {goal.name: goal for goal in done.goals}
    assert goals[REDUCTION].reached == pytest.approx(100 * (1 - done.best.size_bytes / done.baseline.size_bytes))
    assert goals[SPEEDUP].reached == pytest.approx(done.baseline.latency_ms / done.best.latency_ms)
    assert done.baseline.test_accuracy is not None and done.best.test_accuracy is not None
    p, q = done.baseline.test_accuracy, done.best.test_accuracy
    assert goals[DROP].reached == pytest.approx(100 * (p - q))
    assert done.chance_points == pytest.approx(100 * math.sqrt((p * (1 - p) + q * (1 - q)) / 359))
    assert [path.name for path in done.files] == ["model.onnx", "recipe.json", "card.md", "run.py"]
    assert sha256(config.folder / "model.onnx") == stored.trial(1).user_attrs["onnx_sha256"]
    ort.InferenceSession(config.folder / "model.onnx", providers=["CPUExecutionProvider"])
    again = compressed(quick_config(here / "run", TRAINED, min_size_reduction=50.0, max_drop=2.0, trials=9), tiny)
    assert again.met and stored.finished() == 2  # what was found is enough


@pytest.mark.parametrize(("max_drop", "trials"), [(2.0, 2), (1.9, 4)])
def test_an_accuracy_that_chance_explains_does_not_end_it(
    tiny: Registry, here: Path, monkeypatch: pytest.MonkeyPatch, max_drop: float, trials: int
) -> None:
    """One image of a hundred is lost: 1 point, with a standard error of 100 sqrt(0.01 * 0.99 / 100) = 0.995."""
    lost = np.arange(100) > 0

    def of_hundred(session: Session, stored: StoredStudy, standing: Standing) -> np.ndarray[Any, Any]:
        return np.ones(100, dtype=bool) if standing.trial.number == 0 else lost

    monkeypatch.setattr("nas_edge.engine.compress._hits", of_hundred)
    heard = Said()
    config = quick_config(here / "run", TRAINED, min_size_reduction=50.0, max_drop=max_drop, trials=4)
    stored = compressed(config, tiny, heard).stored
    assert stored.finished() == trials
    assert any("by chance" in said for said in heard.said) == (trials == 4)


def test_the_most_accurate_that_meets_the_goals_is_first(tiny: Registry, here: Path) -> None:
    options: dict[str, Any] = {"techniques": ["quantize", "prune"], "max_drop": 100.0, "trials": 6, "gate": False}
    stored = compressed(quick_config(here / "run", TRAINED, **options), tiny).stored
    alone, asked = (
        Standings.of(replace(stored, config=stored.config.model_copy(update={"goals": goals})))
        for goals in (Goals(max_drop=100.0), Goals(max_drop=100.0, max_latency_ms=1e6))
    )
    assert alone is not None and asked is not None
    products = [s.known.latency_ms * s.known.size_bytes for s in alone.ranked]
    assert products == sorted(products)
    accuracies = [s.known.accuracy for s in asked.ranked]
    assert accuracies == sorted(accuracies, reverse=True) and len(set(accuracies)) > 1


def test_the_given_model_is_neither_trained_nor_changed(
    tiny: Registry, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageTrainer, "fit", lambda *a, **k: pytest.fail("trained"))
    config = quick_config(here / "run", TRAINED, min_size_reduction=50.0, max_drop=5.0, trials=9)
    stored = compressed(config, tiny).stored
    session = Session.open(quick_config(here / "other", TRAINED), tiny)
    expected = session.trainer.accuracy(load_model(TRAINED, session.data), session.data.validation)
    given, quantized = stored.trials(TrialState.COMPLETE)
    assert given.values[0] == expected > 0.7
    assert recipe(stored, given)[1].steps == ()
    assert [(step.technique, step.stage) for step in recipe(stored, quantized)[1].steps] == [("quantize", "graph")]
    assert recipe(stored, quantized)[1].steps[0].before.accuracy == expected


def test_goals_beyond_reach_are_named(tiny: Registry, here: Path) -> None:
    done = compressed(quick_config(here / "run", TRAINED, min_size_reduction=99.5, trials=3), tiny)
    assert not done.met and done.stored.finished() == 3
    (missed,) = [goal for goal in done.goals if goal.name == REDUCTION]
    reached = 100 * (1 - done.best.size_bytes / done.baseline.size_bytes)
    assert missed.reached == pytest.approx(reached) and missed.missing == pytest.approx(99.5 - reached)
    smallest = min(t.user_attrs["size_bytes"] for t in done.stored.trials(TrialState.COMPLETE))
    assert done.best.size_bytes == smallest
    assert {t.number for t in done.stored.front()} >= {done.best.number}  # a missed goal takes nothing off the front


def test_all_of_the_training_is_recovery(tiny: Registry, here: Path) -> None:
    options: dict[str, Any] = {"techniques": ["prune"], "min_size_reduction": 20.0, "trials": 2}
    stored = compressed(quick_config(here / "run", TRAINED, gate=False, **options), tiny).stored
    _, pruned = stored.trials(TrialState.COMPLETE)
    spec, evaluation = recipe(stored, pruned)
    assert [(step.technique, step.stage) for step in evaluation.steps] == [
        ("prune", "structure"),
        ("training", "recover"),
    ]
    assert evaluation.steps[1].notes == ("128 images",)
    assert spec.steps[0].config["ratio"] == 0.3  # the technique's default begins


def test_a_model_without_weights_is_trained_once(tiny: Registry, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard = Said()
    config = quick_config(here / "run", trials=2, techniques=["quantize"], train={"teacher_budget": 20.0})
    stored = compressed(config, tiny, heard).stored
    assert heard.phases.count("Training the model, which came without weights") == 1
    assert "no more than by guessing" in heard.said[0] and heard.said[1].endswith(" of training")
    assert stored.download(WEIGHTS_FILE, stored.study, here / "copy.pt")
    assert stored.trial(0).values[0] > 0.3
    monkeypatch.setattr(ImageTrainer, "fit", lambda *a, **k: pytest.fail("trained"))
    run_compression(quick_config(here / "run", trials=3, techniques=["quantize"], train={"teacher_budget": 20.0}))
    assert len({t.user_attrs["onnx_sha256"] for t in stored.trials(TrialState.COMPLETE)}) == 3


def test_it_goes_on_without_the_file_of_weights(tiny: Registry, here: Path) -> None:
    """As if it had not stopped; and a trial off the front is exported."""
    options: dict[str, Any] = {"techniques": ["prune", "quantize"], "seed": 3}
    whole = compressed(quick_config(here / "whole", TRAINED, trials=8, **options), tiny).stored
    compressed(quick_config(here / "run", TRAINED, trials=3, **options), tiny)
    (here / "weights.pt").unlink()
    parts = compressed(quick_config(here / "run", TRAINED, trials=8, **options), tiny).stored
    assert found(parts) == found(whole) and parts.finished() == 8
    off = next(t for t in parts.trials(TrialState.COMPLETE) if t.number not in parts.tables.finals("small-digits"))
    export_trial(locate(str(here / "run"), None), off.number, here / "exported", Progress())
    assert sha256(here / "exported" / "model.onnx") == off.user_attrs["onnx_sha256"]


def test_another_model_is_another_study(tiny: Registry, here: Path) -> None:
    options: dict[str, Any] = {"trials": 1, "techniques": ["quantize"], "study": "mine"}
    compressed(quick_config(here / "run", TRAINED, **options), tiny)
    with pytest.raises(StudyMismatch, match="was made with model = "):
        run_compression(quick_config(here / "run", MODEL, **options))
    (here / "small_network.py").write_text((here / "small_network.py").read_text().replace("48", "40"))
    sys.modules.pop("small_network")
    with pytest.raises(StudyMismatch, match="the study's stored model cannot be loaded"):
        run_compression(quick_config(here / "run", TRAINED, **{**options, "trials": 2}))


def test_the_teacher_is_the_model_itself(tiny: Registry, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageTrainer, "fit", lambda *a, **k: pytest.fail("trained"))
    heard = Said()
    options: dict[str, Any] = {"trials": 1, "techniques": ["distill", "quantize"]}
    stored = compressed(quick_config(here / "run", TRAINED, **options), tiny, heard).stored
    assert stored.study.user_attrs["teacher_accuracy"] == round(stored.trial(0).values[0], 4)
    assert any(said.startswith("teacher: ") and said.endswith("as it was given") for said in heard.said)


@pytest.mark.parametrize(("on_test", "warned"), [(0.9, True), (0.96, False)])
def test_a_model_that_has_seen_the_validation_images_is_named(
    tiny: Registry, here: Path, monkeypatch: pytest.MonkeyPatch, on_test: float, warned: bool
) -> None:
    config = quick_config(here / "run", TRAINED, trials=1, techniques=["quantize"])
    session = Session.open(config, tiny)
    test = session.data.test
    monkeypatch.setattr(ImageTrainer, "accuracy", lambda _, model, split: on_test if split is test else 0.99)
    heard = Said()
    _ready(session, session.space, heard)  # type: ignore[arg-type]
    assert any("trained on what validation was drawn from" in said for said in heard.warnings) == warned


def test_an_accuracy_is_no_chance_beyond_three_standard_errors() -> None:
    error = math.sqrt(0.9 * 0.1 * (1 / 1000 + 1 / 500))
    assert not learned_by_heart(0.9 + 2.9 * error, 0.9, 1000, 500) and learned_by_heart(
        0.9 + 3.1 * error, 0.9, 1000, 500
    )
    assert not learned_by_heart(0.8, 0.9, 1000, 500)


def test_what_is_forced_on_leaves_the_given_model_as_it_is(tiny: Registry, here: Path) -> None:
    options: dict[str, Any] = {"set": {"quantize.enabled": True}, "trials": 2, "techniques": ["prune", "quantize"]}
    stored = compressed(quick_config(here / "run", TRAINED, **options), tiny).stored
    first, second = stored.trials(TrialState.COMPLETE)
    assert recipe(stored, first)[0].steps == ()
    assert [step.technique for step in recipe(stored, second)[0].steps] == ["quantize"]
    assert second.user_attrs[START] == "quantize"


def test_starts_that_a_kill_kept_from_the_queue_are_queued_later(
    tiny: Registry, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, stored = opened(quick_config(here / "run", TRAINED, techniques=["prune", "quantize", "distill"]), tiny)
    queue, count = stored.study.enqueue_trial, 0

    def killed(*given: Any, **named: Any) -> None:
        nonlocal count
        count += 1
        if count == 3:
            raise KeyboardInterrupt
        queue(*given, **named)

    monkeypatch.setattr(stored.study, "enqueue_trial", killed)
    with pytest.raises(KeyboardInterrupt):
        enqueue_starts(session, stored)
    count = 3
    for _ in range(2):
        enqueue_starts(session, stored)
    expected = [" + ".join(names) or GIVEN for names in starting_sets(session.techniques)]
    assert [t.user_attrs[START] for t in stored.trials()] == expected and len(expected) > 3
    stored.study.ask({})
    stored.study.add_trial(optuna.trial.create_trial(state=TrialState.FAIL))
    enqueue_starts(session, stored)
    assert len(stored.trials()) == len(expected) + 1, "a search that has begun had them all"


# --- what guides it


def test_the_sampler_is_told_how_far_the_goals_are(tiny: Registry, here: Path) -> None:
    options: dict[str, Any] = {"min_size_reduction": 90.0, "max_latency_ms": 0.2, "trials": 2}
    stored = compressed(quick_config(here / "run", TRAINED, **options), tiny).stored
    given, quantized = stored.trials(TrialState.COMPLETE)
    share = quantized.user_attrs["size_bytes"] / given.user_attrs["size_bytes"]
    assert quantized.constraints[GOAL + REDUCTION] == pytest.approx(share / 0.1 - 1)
    assert quantized.constraints[GOAL + LATENCY] == pytest.approx(quantized.values[1] / 0.2 - 1)
    drop = 100 * (given.values[0] - quantized.values[0])
    assert quantized.constraints[GOAL + DROP] == pytest.approx(drop - 0.5)
    assert given.constraints[GOAL + REDUCTION] == pytest.approx(9.0)
    standings = Standings.of(stored)
    assert standings is not None and standings.given.trial.number == 0
    assert [s.trial.number for s in standings.ranked] == [1, 0]


def test_what_cannot_meet_the_goals_is_not_trained(tiny: Registry, here: Path) -> None:
    """A few in a row; then one that is no farther from the goals than half of them."""
    options: dict[str, Any] = {"min_size_reduction": 80.0, "trials": 1}
    config = quick_config(here / "run", TRAINED, **options)
    stored = compressed(config, tiny).stored
    session = Session.open(config, tiny)
    size = stored.trial(0).user_attrs["size_bytes"]

    def said(share: float) -> str | None:
        trial = stored.study.ask()
        why = hopeless(session, trial, stored.trials(), latency_ms=0.1, size_bytes=round(share * size))
        stored.study.tell(trial, state=TrialState.PRUNED)
        return why

    for share in (0.9, 0.8, 0.7, 0.6, 0.5):
        reason = said(share)
        assert reason is not None and f"size reduction {100 * (1 - share):.3g} %, not 80" in reason
    assert len([t for t in stored.trials(TrialState.PRUNED) if t.constraints]) == FEW
    assert said(0.75) is not None and said(0.6) is None and said(0.2) is None
    assert said(0.21) is None  # predictions err


def test_a_rejected_candidate_does_not_pass_for_one_that_meets_the_goals(tiny: Registry, here: Path) -> None:
    """And a repeated one is told with what the first was told with."""
    options: dict[str, Any] = {"min_size_reduction": 99.0, "trials": 3, "techniques": ["quantize"], "sampler": "random"}
    config = quick_config(here / "run", TRAINED, set={"quantize.calibration_images": 128}, **options)
    stored = compressed(config, tiny).stored
    repeats = [t for t in stored.trials(TrialState.COMPLETE) if REPEAT_OF in t.user_attrs]
    assert repeats
    for repeat in repeats:
        first = stored.evaluated_in(repeat)
        assert repeat.values == first.values and repeat.constraints == first.constraints
        assert max(repeat.constraints.values()) > 0
    trial = stored.study.ask()
    mark_rejected(config.goals, trial)
    assert stored.trial(trial.number).constraints == {f"{GOAL}rejected": REJECTED}


def test_the_gate_leaves_room_for_chance_and_for_more_training(tiny: Registry, here: Path) -> None:
    """Nine times the images make good two thirds of a loss."""
    config = quick_config(here / "run", TRAINED, max_drop=1.0)
    for budget, drop in ((0.0, 0.01), (1.0, 0.01), (9.0, 0.03)):
        train = config.train.model_copy(update={"final_budget": budget})
        session = Session.open(config.model_copy(update={"train": train}), tiny)
        chance = 3 * math.sqrt(2 * 0.95 * 0.05 / len(session.data.validation))
        assert session.gate is not None and session.gate.max_drop == pytest.approx(drop + chance)
    assert Session.open(quick_config(here / "run", TRAINED, gate=False), tiny).gate is None


def test_a_near_miss_is_trained_for_longer(tiny: Registry, here: Path) -> None:
    """It misses nothing but the accuracy, and it is what more training can change."""
    options: dict[str, Any] = {
        "techniques": ["prune"],
        "min_size_reduction": 20.0,
        "max_drop": 5.0,
        "trials": 2,
        "gate": False,
        "train": {"samples": 64, "final_budget": 80.0, "learning_rate": 3e-3},
        "set": {"prune.ratio": 0.5},
    }
    done = compressed(quick_config(here / "run", TRAINED, **options), tiny)
    searched = done.stored.trial(1)
    assert searched.values[0] < done.baseline.accuracy - 0.05
    assert done.best.number == 1 and done.best.accuracy > searched.values[0]
    assert "trained_longer" in (here / "run" / "recipe.json").read_text()
    assert sha256(here / "run" / "model.onnx") != searched.user_attrs["onnx_sha256"]


def test_what_meets_the_goals_is_trained_for_longer_where_it_was_trained(tiny: Registry, here: Path) -> None:
    """Chosen on validation, it is to have accuracy to spare; a file quantized after training stays as it is."""
    options: dict[str, Any] = {"techniques": ["prune"], "min_size_reduction": 20.0, "max_drop": 60.0, "trials": 5}
    train = {"samples": 64, "final_budget": 30.0, "learning_rate": 3e-3}
    done = compressed(quick_config(here / "run", TRAINED, train=train, gate=False, **options), tiny)
    assert done.stored.finished() == 2 and done.best.number == 1
    assert done.best.accuracy > done.stored.trial(1).values[0]
    assert done.stored.tables.finals("small-digits")[1]["final"]


def test_what_ships_where_nothing_gains(tiny: Registry, here: Path) -> None:
    """A candidate, however far from the goals; the model as it was given only where that is what was asked for."""
    options: dict[str, Any] = {
        "techniques": ["quantize"],
        "trials": 2,
        "gate": False,
        "set": {"quantize.weight_bits": 2},
    }
    far = compressed(quick_config(here / "far", TRAINED, max_drop=0.0, min_size_reduction=1.0, **options), tiny)
    assert not far.met and far.best.number == 1 and far.best.accuracy < far.baseline.accuracy
    kept = compressed(quick_config(here / "kept", TRAINED, max_drop=0.0, **options), tiny)
    assert kept.met and kept.best.number == kept.baseline.number == 0


def test_frozen_parameters_are_trained_too(tiny: Registry, here: Path) -> None:
    (here / "small_network.py").write_text(
        (here / "small_network.py").read_text() + "\ndef frozen():\n    return small().requires_grad_(False)\n"
    )
    config = quick_config(here / "run", "small_network:frozen:weights.pt", techniques=["prune"], trials=2, gate=False)
    stored = compressed(config, tiny).stored
    assert stored.finished() == 2
    assert not torch.is_inference_mode_enabled()
