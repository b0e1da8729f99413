"""What the loop does with candidates that are too slow, refused or broken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from optuna.trial import TrialState
from torch import nn

from nas_edge import Context, InvalidCandidate, NasEdgeError, Scope, Technique, UserError, evaluate
from nas_edge.cli import main
from nas_edge.engine import early, loop
from nas_edge.engine.loop import describe
from nas_edge.engine.progress import Progress
from nas_edge.engine.recipes import read_recipe
from nas_edge.plugins import Registry
from nas_edge.samplers.history import UNDONE, History
from nas_edge.store.requeue import requeue
from nas_edge.train.trainer import ImageTrainer

from ..studies import Said, assert_whole, opened, search, study_file, tiny_config, tiny_values


@dataclass(frozen=True)
class BrittleConfig:
    breaks: bool = False


class Brittle(Technique):
    """Breaks in about half of the candidates in which it is on."""

    name = "brittle"
    config_type = BrittleConfig
    error: Callable[[str], Exception] = RuntimeError

    def suggest(self, scope: Scope) -> BrittleConfig:
        return BrittleConfig(scope.suggest_categorical("breaks", [False, True]))

    def structure(self, model: Any, config: BrittleConfig, context: Context) -> Any:
        if config.breaks:
            raise self.error("it broke\nin two lines")
        return model


class Hollow(Technique):
    """Leaves nothing of a network but the mean of its image: small, fast, and wrong."""

    name = "hollow"
    config_type = BrittleConfig

    def suggest(self, scope: Scope) -> BrittleConfig:
        return BrittleConfig()

    def structure(self, model: Any, config: BrittleConfig, context: Context) -> Any:
        head = nn.Linear(context.data.channels, len(context.data.classes))
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)


class AlwaysBroken(Brittle):
    name = "always"

    def suggest(self, scope: Scope) -> BrittleConfig:
        return BrittleConfig(True)

    def structure(self, model: Any, config: BrittleConfig, context: Context) -> Any:
        raise ZeroDivisionError("a defect")


@pytest.fixture
def fitted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The samples of each training that was asked for."""
    asked: list[int] = []
    fit = ImageTrainer.fit

    def counted(self: ImageTrainer, model: Any, *, samples: int, objectives: Any = ()) -> Any:
        asked.append(samples)
        return fit(self, model, samples=samples, objectives=objectives)

    monkeypatch.setattr(ImageTrainer, "fit", counted)
    return asked


def test_too_slow_candidates_are_rejected_before_training(tiny: Registry, fitted: list[int], tmp_path: Path) -> None:
    limit = 0.14
    stored = search(tiny_config(tmp_path, trials=4, max_latency_ms=limit), tiny)
    assert_whole(stored, 4, tmp_path)
    rejected = stored.trials(TrialState.PRUNED)
    assert rejected and len(fitted) == len(stored.trials(TrialState.COMPLETE))
    for trial in rejected:
        assert "before training, over --max-latency-ms 0.14" in trial.user_attrs["why"]
        assert trial.constraints["latency_ms"] > 0
    front = stored.front()
    assert front and all(t.values[1] <= limit and t.constraints["latency_ms"] <= 0 for t in front)
    assert {t.number for t in stored.study.best_trials} == {t.number for t in front}
    spec, evaluation = read_recipe(stored, front[0], final=False)
    assert "over" not in describe(evaluation, spec, limit) + describe(evaluation, spec, None)
    assert " ms (over 0.001 ms)  " in describe(evaluation, spec, 0.001)


def test_a_candidate_too_slow_without_what_was_undone_is_not_trained_again(
    tiny: Registry, fitted: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the sampler learns what it comes to: the latency without the technique, and that with it is of no use."""
    monkeypatch.setattr(loop, "MAX_REJECTED_IN_A_ROW", 4)
    tiny.techniques["hollow"] = Hollow()
    options = {"techniques": ["hollow"], "max_latency_ms": 0.05, "train_images": 1000}
    config = tiny_config(tmp_path, train={"samples": 2000}, **options)
    with pytest.raises(UserError, match="4 candidates in a row were rejected"):
        search(config, tiny)
    _, stored = opened(config, tiny)
    trained = [t for t in stored.trials() if t.params["hollow.enabled"]]
    assert 0 < len(trained) < 4 and len(fitted) == 2 * len(trained)  # before the technique, and recovery
    for trial in trained:
        assert trial.user_attrs["why"].startswith("rejected: hollow undone (accuracy ")
        assert "after recovery, more than 5 points lost); " in trial.user_attrs["why"]
        assert trial.user_attrs["why"].endswith("before training, over --max-latency-ms 0.05")
        assert trial.user_attrs[UNDONE] == ["hollow"] and trial.constraints["latency_ms"] > 0
    history = History.of(stored.study)
    switch = next(i for i, p in enumerate(history.parameters.all) if p.name == "hollow.enabled")
    on = history.rows[:, switch] == history.parameters.all[switch].encode(True)
    assert on.sum() == len(trained) and np.isnan(history.losses[on]).all()
    assert len(history) == 4 + len(trained) and np.isfinite(history.losses[~on, 1]).all()


def test_few_in_a_row_are_turned_down_after_their_training(
    tiny: Registry, fitted: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then one is trained to its end: or a search would spend its time on what counts as no trial."""
    monkeypatch.setattr(early, "MOST_TURNED_DOWN", 2)
    monkeypatch.setattr(loop, "MAX_REJECTED_IN_A_ROW", 3)
    tiny.techniques["hollow"] = Hollow()
    options = {"techniques": ["hollow"], "max_latency_ms": 0.05, "set": {"hollow.enabled": True}}
    stored = search(tiny_config(tmp_path, trials=1, train={"samples": 2000}, train_images=1000, **options), tiny)
    states = [trial.state for trial in stored.trials()]
    assert states == [TrialState.PRUNED, TrialState.PRUNED, TrialState.COMPLETE]
    assert stored.trials()[-1].user_attrs[UNDONE] == ["hollow"] and len(fitted) == 7


def test_what_is_left_is_judged_by_what_is_plausible_without_what_was_undone(
    tiny: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A technique that costs accuracy says nothing of the candidates that do without it."""
    monkeypatch.setattr(early, "LEAST_FINISHED", 4)
    tiny.techniques["hollow"] = Hollow()
    config = tiny_config(tmp_path, trials=8, techniques=["hollow"], gate=False, audit_trials=0)
    stored = search(config, tiny)
    on = {t.params["hollow.enabled"]: t for t in stored.evaluated()}[True]
    session, _ = opened(config, tiny)
    trial = stored.study.ask(fixed_distributions=on.distributions)
    for name, value in on.params.items():
        trial.storage.set_trial_param(
            trial._trial_id, name, on.distributions[name].to_internal_repr(value), on.distributions[name]
        )
    recipe, _ = read_recipe(stored, on, final=False)
    outlook = early.Outlook(session, stored, trial, recipe, stored.trials())
    with_it = outlook._plausible_accuracy({})
    trial.set_user_attr(UNDONE, ["hollow"])
    assert outlook._plausible_accuracy({}) > with_it


def test_a_limit_that_nothing_meets_is_said(
    tiny: Registry, fitted: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "MAX_REJECTED_IN_A_ROW", 3)
    with pytest.raises(UserError, match=r"3 candidates in a row were rejected.*over --max-latency-ms.*loosen"):
        search(tiny_config(tmp_path, max_latency_ms=1e-6), tiny)
    assert fitted == []


def test_a_space_without_new_candidates_ends_the_search_early(
    tiny: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "MAX_REJECTED_IN_A_ROW", 10)
    only = {"width": 4, "features": 8, "kernel": 3}
    monkeypatch.setattr(type(tiny.search_spaces["tiny"]), "suggest", lambda self, scope: dict(only))
    said = Said()
    stored = search(tiny_config(tmp_path, trials=2), tiny, said)
    assert stored.finished() == 1 and len(stored.trials()) == 11
    assert len(said.warnings) == 1
    assert "10 candidates in a row were rejected, the last: the same candidate as trial 0" in said.warnings[0]
    assert set(stored.tables.finals("tiny")) == {0}


def test_a_candidate_that_fails_costs_itself_alone(tiny: Registry, tmp_path: Path) -> None:
    tiny.techniques["brittle"] = Brittle()
    stored = search(tiny_config(tmp_path, trials=4, techniques=["brittle"], seed=1), tiny)
    assert_whole(stored, 4, tmp_path)
    failed = stored.trials(TrialState.FAIL)
    assert failed
    for trial in failed:
        assert trial.user_attrs["why"] == "failed: RuntimeError: it broke in two lines"
        assert trial.params["brittle.breaks"]
    assert loop.error_log(stored).read_text().count("RuntimeError: it broke\nin two lines") == len(failed)


def test_a_candidate_that_cannot_be_built_is_rejected(
    tiny: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Brittle, "error", InvalidCandidate)
    tiny.techniques["brittle"] = Brittle()
    stored = search(tiny_config(tmp_path, trials=4, techniques=["brittle"], seed=1), tiny)
    assert not stored.trials(TrialState.FAIL)
    assert {t.user_attrs["why"] for t in stored.trials(TrialState.PRUNED)} == {"rejected: it broke in two lines"}


def test_a_technique_that_always_fails_ends_the_search(
    tiny: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(loop, "MAX_FAILED_IN_A_ROW", 2)
    monkeypatch.setattr(AlwaysBroken, "overrides", lambda self, stage: stage == "structure")
    tiny.techniques["always"] = AlwaysBroken()
    out = tmp_path / "study"
    values = tiny_values(out, techniques=["always"], trials=30, seed=1, storage=f"sqlite:///{tmp_path}/other.db")
    with pytest.raises(NasEdgeError, match="2 trials in a row failed, the last: failed: ZeroDivisionError: a defect"):
        search(tiny_config(out, **{k: v for k, v in values.items() if k != "out"}), tiny)
    assert main(["search", study_file(tmp_path / "study.toml", values)]) == 1
    said = capsys.readouterr().err
    assert said.splitlines()[-1].startswith("error: 2 trials in a row failed")
    assert str(out / "errors.log") in said and "ZeroDivisionError: a defect" in (out / "errors.log").read_text()


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), UserError("a plugin is missing")])
def test_what_would_only_repeat_stops_the_search(
    error: Exception, tiny: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trial is queued again, so that nothing is lost."""
    original = loop.store_evaluation

    def fail(*arguments: Any) -> None:
        raise error

    monkeypatch.setattr(loop, "store_evaluation", fail)
    with pytest.raises(type(error)):
        search(tiny_config(tmp_path, trials=2), tiny)
    monkeypatch.setattr(loop, "store_evaluation", original)
    stored = search(tiny_config(tmp_path, trials=2), tiny)
    first, again = stored.trial(0), stored.trial(1)
    assert (first.state, first.user_attrs["why"]) == (TrialState.FAIL, "stopped by an error")
    assert again.params == first.params and again.state is TrialState.COMPLETE
    assert_whole(stored, 2, tmp_path)


@pytest.mark.parametrize("error", [None, InvalidCandidate("no such width"), ZeroDivisionError("a defect")])
def test_a_trial_that_was_taken_over_does_not_count_twice(
    error: Exception | None, tiny: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another machine took this worker, silent for too long, for dead while it trained."""
    session, stored = opened(tiny_config(tmp_path, trials=2), tiny)
    count = 0

    def seized(*given: Any, **named: Any) -> Any:
        nonlocal count
        count += 1
        if count == 1:
            requeue(stored, stored.trials()[0], "its machine fell silent")
            if error is not None:
                raise error
        return evaluate.evaluate(*given, **named)

    monkeypatch.setattr(loop, "evaluate", seized)
    loop.run_trials(session, stored, Progress())
    lost, again, _ = stored.trials()
    assert (lost.state, lost.user_attrs["why"]) == (TrialState.FAIL, "its machine fell silent")
    assert again.state is TrialState.COMPLETE and again.params == lost.params
    assert (stored.finished(), count) == (2, 3) and not (stored.folder / "errors.log").exists()
