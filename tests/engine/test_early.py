"""Candidates that are left out by what is known before their training, or on the way."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from optuna.trial import FrozenTrial, TrialState

from nas_edge import evaluate
from nas_edge.engine import early, rungs
from nas_edge.plugins import Registry
from nas_edge.samplers.history import PARTIAL, History
from nas_edge.store.study import REPEAT_OF, StoredStudy
from nas_edge.train.trainer import ImageTrainer

from ..studies import Said, assert_whole, search, tiny_config


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The shares of trainings after which their milestones were reached."""
    reached: list[float] = []
    probed = ImageTrainer._probed

    def noted(self: ImageTrainer, *arguments: Any) -> float:
        assert self.milestones
        reached.append(self.milestones.shares[self.milestones._passed])
        return probed(self, *arguments)

    monkeypatch.setattr(ImageTrainer, "_probed", noted)
    return reached


def by_width(graph: Any, split: Any, target: Any) -> float:
    """Stands for an accuracy to which the second convolution, which costs most, adds little."""
    first, second = (
        i.dims for i in graph.graph.initializer if len(i.dims) == 4 and i.dims[1] != i.dims[0] and i.dims[2] > 1
    )
    return float(1 - 1 / first[0] - 0.1 / second[0])


def by_params(stored: StoredStudy) -> Mapping[str, FrozenTrial]:
    return {str(t.params): t for t in stored.trials()}


def front_values(stored: StoredStudy, asked: int | None = None) -> list[list[float]]:
    """Of the trials that were asked first, or of all."""
    return [t.values for t in stored.front(stored.trials()[:asked])]


def test_what_could_not_enter_the_front_is_not_trained(
    tiny: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing is lost by it: the front is that of a search which trains them all."""
    monkeypatch.setattr(early, "LEAST_FINISHED", 8)
    monkeypatch.setattr(evaluate, "accuracy", by_width)
    config = {"train": {"samples": 64}, "audit_trials": 0}
    kept = search(tiny_config(tmp_path / "kept", trials=13, **config), tiny)
    left_out = kept.trials(TrialState.PRUNED)
    assert left_out
    asked = len(kept.trials())
    whole = search(tiny_config(tmp_path / "all", trials=asked, latency_first=False, **config), tiny)
    assert not whole.trials(TrialState.PRUNED)
    trained = by_params(whole)
    for trial in left_out:
        would = trained[str(trial.params)].values
        unknown, latency_ms = trial.user_attrs[PARTIAL]
        assert unknown is None and latency_ms == pytest.approx(would[1], rel=0.02)
        assert "is plausible: trial" in trial.user_attrs["why"]
        assert would not in front_values(whole, asked)
    assert front_values(kept) == front_values(whole, asked)
    history = History.of(kept.study)
    partly = np.isnan(history.losses[:, 0]) & np.isfinite(history.losses[:, 1])
    assert partly.sum() == len(left_out) and history.finished.sum() == 13


def test_a_training_that_stands_badly_is_stopped(
    tiny: Registry, steps: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rungs, "LEAST", 4)
    train = {"batch_size": 16}
    config = tiny_config(tmp_path, trials=8, early_stopping=True, latency_first=False, audit_trials=0, train=train)
    stored = search(config, tiny)
    assert_whole(stored, 8, tmp_path)
    stopped = stored.trials(TrialState.PRUNED)
    assert stopped
    late = [t for t in stopped if "rung 50%" in t.user_attrs]
    assert steps.count(0.25) == len(stored.trials()) and steps.count(0.5) == 8 + len(late)
    for trial in stopped:
        share = "50%" if trial in late else "25%"
        assert trial.user_attrs["why"].startswith(f"rejected: stopped after {share} of its training: ")
        accuracy, latency_ms = trial.user_attrs[f"rung {share}"]
        hoped, same_ms = trial.user_attrs[PARTIAL]
        assert same_ms == latency_ms and accuracy > 0 and hoped != accuracy
    front = {t.number for t in stored.front()}
    assert front <= {t.number for t in stored.trials(TrialState.COMPLETE)}


def test_the_same_search_stops_the_same(tiny: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rungs, "LEAST", 3)
    found = []
    for folder in ("one", "other"):
        stored = search(tiny_config(tmp_path / folder, trials=5, early_stopping=True, audit_trials=0), tiny)
        found.append([(t.params, t.values, t.user_attrs.get("why")) for t in stored.trials()])
    assert found[0] == found[1] and len(found[0]) > 5


def test_a_repeat_is_answered_from_the_store(tiny: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes no trial of those asked for, and is in no front twice."""
    monkeypatch.setattr(type(tiny.search_spaces["tiny"]), "suggest", _three_networks)
    said = Said()
    stored = search(tiny_config(tmp_path, trials=3), tiny, said)
    evaluated = assert_whole_but_for_repeats(stored, 3)
    repeats = [t for t in stored.trials(TrialState.COMPLETE) if REPEAT_OF in t.user_attrs]
    assert repeats
    for trial in repeats:
        first = evaluated[trial.user_attrs[REPEAT_OF]]
        assert trial.values == first.values and trial.params == first.params
        assert trial.user_attrs["why"] == f"the same candidate as trial {first.number}"
        assert trial.user_attrs["onnx_sha256"] == first.user_attrs["onnx_sha256"]
    assert not {t.number for t in stored.front()} & {t.number for t in repeats}


def _three_networks(space: Any, scope: Any) -> dict[str, Any]:
    return {"width": scope.suggest_int("width", 4, 6), "features": 8, "kernel": 3}


def assert_whole_but_for_repeats(stored: StoredStudy, trials: int) -> dict[int, FrozenTrial]:
    evaluated = {t.number: t for t in stored.evaluated()}
    assert len(evaluated) == trials == stored.finished() == len({str(t.params) for t in evaluated.values()})
    return evaluated


def test_the_order_within_a_rung() -> None:
    """By hand: the last point is of the second rank, behind two ends; then of the first, between two others."""
    behind = np.array([[0.0, 4.0], [4.0, 0.0], [3.0, 4.5]])
    assert rungs.place(behind) == 2
    between = np.array([[0.0, 4.0], [4.0, 0.0], [1.0, 2.0], [2.0, 1.0], [0.5, 3.0]])
    np.testing.assert_allclose(rungs.crowding(between), [np.inf, np.inf, 1.5 / 4 + 2 / 4, 3 / 4 + 2 / 4, 1 / 4 + 2 / 4])
    assert rungs.place(between) == 4
    assert rungs.place(between[[0, 1, 2, 4, 3]]) == 2


def test_few_are_kept_and_the_better_half_of_many() -> None:
    chain = np.arange(20.0)[:, None] * np.ones(2)  # each is better than all after it
    assert rungs.stays(chain[: rungs.LEAST])
    assert not rungs.stays(chain)
    for position in range(20):
        order = [i for i in range(20) if i != position] + [position]
        assert rungs.stays(chain[order]) == (position < 10)
