"""A study with a supernet: trained once, stored, inherited from where it ranks, and refined at the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from optuna.trial import TrialState
from scipy.stats import kendalltau

from nas_edge.config import StudyConfig
from nas_edge.engine import supernets
from nas_edge.engine.progress import Progress
from nas_edge.engine.recipes import read_recipe
from nas_edge.engine.supernets import CHECKPOINT_FILE, SUPERNET_FILE, TAU
from nas_edge.plugins import Registry
from nas_edge.store.study import StoredStudy

from ..studies import Said, found, opened, search, tiny_config

TRAIN: dict[str, Any] = {"samples": 256, "supernet_budget": 8.0, "supernet_share": 0.05, "ranking_sample": 0}


def config(out: Path, *, train: dict[str, Any] | None = None, **changes: Any) -> StudyConfig:
    return tiny_config(out, supernet=True, train={**TRAIN, **(train or {})}, **changes)


def seconds_of_training(stored: StoredStudy) -> list[float]:
    trials = stored.trials(TrialState.COMPLETE)
    return [read_recipe(stored, t, final=False)[1].seconds.get("train", 0.0) for t in trials]


def test_candidates_inherit_their_weights(tiny: Registry, tmp_path: Path) -> None:
    """Each is as accurate as the shared weights make it, once they have settled."""
    heard = Said()
    stored = search(config(tmp_path / "run"), tiny, heard)
    assert "Training the supernet" in heard.phases and any(s.startswith("supernet: trained on") for s in heard.said)
    session, _ = opened(config(tmp_path / "run"), tiny)
    session.ensure_supernet(stored, Progress())
    networks = supernets.Networks(session)
    assert session.shared is not None
    for trial in stored.trials(TrialState.COMPLETE):
        params = read_recipe(stored, trial, final=False)[0].arch.params
        network = networks.build(params)
        session.shared.load_into(params, network)
        settled = session.trainer.fit(network, samples=13)  # a twentieth
        right = session.trainer.accuracy(settled, session.data.validation)
        assert trial.values[0] == pytest.approx(right, abs=0.01)
        steps = read_recipe(stored, trial, final=False)[1].steps
        assert [(step.technique, step.notes) for step in steps] == [("training", ("13 images",))]


def test_it_is_trained_once_and_kept_with_the_study(tiny: Registry, tmp_path: Path) -> None:
    whole = search(config(tmp_path / "whole", trials=5), tiny)
    search(config(tmp_path / "run", trials=2), tiny)
    heard = Said()
    parts = search(config(tmp_path / "run", trials=5), tiny, heard)
    assert "Training the supernet" not in heard.phases
    assert found(parts) == found(whole)
    assert not (tmp_path / "run" / CHECKPOINT_FILE).exists()


def test_an_interrupted_training_goes_on(tiny: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = {"supernet_budget": 40.0}  # more than one round
    session, stored = opened(config(tmp_path / "run", train=long), tiny)

    class Stopping(Progress):
        def part_done(self, share: float) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        session.ensure_supernet(stored, Stopping())
    state = torch.load(tmp_path / "run" / CHECKPOINT_FILE, weights_only=True)
    assert 0 < state["done"] < state["steps"]
    shares: list[float] = []
    heard = Said()
    monkeypatch.setattr(heard, "part_done", shares.append)
    session.ensure_supernet(stored, heard)
    assert len(shares) == round(state["steps"] / state["done"] + 0.499) - 1
    assert stored.download(SUPERNET_FILE, stored.study, tmp_path / "copy.pt")


def test_how_well_it_ranks_is_measured(tiny: Registry, tmp_path: Path) -> None:
    heard = Said()
    stored = search(config(tmp_path / "run", train={"ranking_sample": 4}), tiny, heard)
    known = stored.study.user_attrs[TAU]
    assert known["candidates"] == len(known["pairs"]) == 4
    assert known["tau"] == pytest.approx(float(kendalltau(*zip(*known["pairs"], strict=True)).statistic), abs=1e-4)
    said = f"inherited accuracy ranks trained accuracy with Kendall tau {known['tau']:.2f} on 4 candidates"
    assert said in heard.said
    again = Said()
    search(config(tmp_path / "run", train={"ranking_sample": 4}), tiny, again)
    assert not any("Kendall" in text for text in again.said)


def test_one_that_ranks_badly_is_not_used(tiny: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supernets, "LEAST_TAU", 1.1)
    heard = Said()
    stored = search(config(tmp_path / "run", train={"ranking_sample": 2}), tiny, heard)
    assert any(text.startswith("the supernet ranks candidates too badly") for text in heard.warnings)
    assert min(seconds_of_training(stored)) > 0


def test_a_space_without_one_is_searched_all_the_same(
    tiny: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(tiny.search_spaces["tiny"]), "supernet", lambda self: None)
    heard = Said()
    stored = search(config(tmp_path / "run"), tiny, heard)
    assert "the search space tiny has no supernet: each candidate is trained from nothing" in heard.said
    assert min(seconds_of_training(stored)) > 0


def test_the_front_is_trained_from_what_it_inherited(tiny: Registry, tmp_path: Path) -> None:
    """As long as without a supernet, and the first for longer."""
    stored = search(config(tmp_path / "run", trials=4, train={"final_budget": 6.0, "finalists": 1}), tiny)
    finals, front = stored.tables.finals("tiny"), stored.front()
    assert len(front) > 1 and all(finals[t.number]["retrained"] for t in front)
    images = {}
    for trial in front:
        if finals[trial.number]["final"]:  # it was better
            steps = read_recipe(stored, trial, final=True)[1].steps
            images[trial.number] = [note for step in steps for note in step.notes]
    assert images.pop(front[0].number, ["1,536 images"]) == ["1,536 images"]
    assert images and all(notes == ["256 images"] for notes in images.values())
