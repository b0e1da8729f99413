"""The hooks that the engine calls during a search."""

from __future__ import annotations

import logging
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from nas_edge import CandidateSpec, Context, Evaluation, Prediction, Target, Technique, hookimpl
from nas_edge.plugins import Registry
from nas_edge.records import Measurement

from ..studies import Said, found, search, tiny_config


def test_a_validator_rejects_before_training(tiny: Registry, tmp_path: Path) -> None:
    class Narrow:
        @hookimpl
        def validate_candidate(self, spec: CandidateSpec, context: Context) -> str | None:
            return f"width {spec.arch.params['width']} is too wide" if spec.arch.params["width"] > 10 else None

    tiny.hooks.register(Narrow())
    stored = search(tiny_config(tmp_path, trials=4, seed=3), tiny)
    assert all(t.params["tiny.width"] <= 10 for t in stored.trials(TrialState.COMPLETE))
    rejected = stored.trials(TrialState.PRUNED)
    assert rejected
    for trial in rejected:
        assert trial.user_attrs["why"] == f"rejected: width {trial.params['tiny.width']} is too wide"
        assert "onnx_sha256" not in trial.user_attrs


def test_a_wrapper_sees_every_stage_of_every_technique(tiny: Registry, tmp_path: Path) -> None:
    seen: list[tuple[str, str]] = []

    class Tracer:
        @hookimpl(wrapper=True)
        def apply_technique(self, technique: Technique, stage: str) -> Generator[None, Any, Any]:
            seen.append((technique.name, stage))
            return (yield)

    tiny.hooks.register(Tracer())
    techniques = ["quantize", "distill", "prune", "low_rank"]
    stored = search(tiny_config(tmp_path, trials=6, techniques=techniques, seed=2, gate=False), tiny)
    on = [name for t in stored.trials(TrialState.COMPLETE) for name in techniques if t.params[f"{name}.enabled"]]
    staged = {
        "prune": ["structure"],
        "low_rank": ["structure"],
        "distill": ["objective"],
        "quantize": ["graph"],
    }
    assert sorted(seen) == sorted((name, stage) for name in on for stage in staged[name])


def test_a_wrapper_can_veto(tiny: Registry, tmp_path: Path) -> None:
    class Veto:
        @hookimpl
        def apply_technique(self, technique: Technique, stage: str, subject: Any) -> Any:
            return subject

    plain = search(tiny_config(tmp_path / "plain", techniques=["quantize"]), tiny)
    quantized = [t for t in plain.trials(TrialState.COMPLETE) if t.params["quantize.enabled"]]
    assert quantized
    tiny.hooks.register(Veto())
    vetoed = search(tiny_config(tmp_path / "vetoed", techniques=["quantize"]), tiny)
    for trial in quantized:
        assert vetoed.trial(trial.number).user_attrs["size_bytes"] > trial.user_attrs["size_bytes"]


def test_observers_hear_of_candidates_and_of_the_end(tiny: Registry, tmp_path: Path) -> None:
    heard: list[tuple[str, Evaluation]] = []
    ended: list[Sequence[Evaluation]] = []

    class Observer:
        @hookimpl
        def candidate_finished(self, study: optuna.Study, evaluation: Evaluation) -> None:
            heard.append((study.study_name, evaluation))

        @hookimpl
        def study_finished(self, study: optuna.Study, evaluations: Sequence[Evaluation]) -> None:
            ended.append(evaluations)

    tiny.hooks.register(Observer())
    stored = search(tiny_config(tmp_path), tiny)
    assert [(e.key, e.onnx_sha256, [e.accuracy, e.latency_ms]) for _, e in heard] == found(stored)
    assert {name for name, _ in heard} == {"tiny"}
    front = [t.user_attrs["onnx_sha256"] for t in stored.front()]
    assert [[e.onnx_sha256 for e in evaluations] for evaluations in ended] == [front]


def test_a_broken_observer_costs_a_warning(tiny: Registry, tmp_path: Path) -> None:
    class Broken:
        @hookimpl
        def candidate_finished(self, study: optuna.Study, evaluation: Evaluation) -> None:
            raise ValueError("no room on the board")

    tiny.hooks.register(Broken())
    said = Said()
    stored = search(tiny_config(tmp_path), tiny, said)
    assert stored.finished() == 3 and not stored.trials(TrialState.FAIL)
    assert len(said.warnings) == 3
    assert "ValueError: no room on the board" in said.warnings[0]
    assert "no room on the board" in (tmp_path / "errors.log").read_text()


@pytest.mark.parametrize("unsupported", [(), ("Mystery",)])
def test_a_prediction_that_leaves_operators_out_is_not_used(
    unsupported: tuple[str, ...], tiny: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Partial:
        @hookimpl(tryfirst=True)
        def predict_latency(self, graph: Any, target: Target) -> Prediction:
            return Prediction(7.0, 6.0, 8.0, unsupported)

    tiny.hooks.register(Partial())
    bench = type(tiny.find("target", "bench")("bench"))
    measured = Measurement(3.0, 3.3, 2.9, 3.1, 10, "bench")
    monkeypatch.setattr(bench, "measure", lambda self, model, budget_s: measured)
    trial = search(tiny_config(tmp_path, trials=1), tiny).trial(0)
    assert trial.values[1] == (3.0 if unsupported else 7.0)
    assert ("measured" if unsupported else "predicted") in trial.user_attrs["latency"]


def test_plugins_may_log(tiny: Registry, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Logger:
        @hookimpl
        def validate_candidate(self, spec: CandidateSpec, context: Context) -> None:
            context.log.warning("seen %s", spec.key)

    tiny.hooks.register(Logger())
    with caplog.at_level(logging.WARNING, "nas_edge"):
        stored = search(tiny_config(tmp_path, trials=1), tiny)
    assert f"seen {stored.trial(0).user_attrs['key']}" in caplog.text
