"""Random search with the budget of a study, and what is said of the two."""

from __future__ import annotations

import statistics
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from optuna._hypervolume import compute_hypervolume

from nas_edge import UserError
from nas_edge.config import make_config
from nas_edge.engine.baseline import stored_baselines
from nas_edge.plugins import Registry
from nas_edge.report.baseline import Baseline, baseline_of, describe
from nas_edge.report.front import front_rows
from nas_edge.report.summary import summary
from nas_edge.store.locate import locate
from nas_edge.store.study import StoredStudy

from ..studies import Said, found, search, tiny_config


def points(stored: StoredStudy) -> list[tuple[float, float]]:
    return [(row.latency_ms, 1 - (row.test_accuracy or 0)) for row in front_rows(stored)]


def test_random_search_gets_the_same_budget(tiny: Registry, tmp_path: Path) -> None:
    said = Said()
    config = tiny_config(tmp_path, trials=3, sampler="evolution", baseline="random", baseline_seeds=2, audit_trials=0)
    stored = search(config, tiny, said)
    others = stored_baselines(stored)
    assert [o.config.name for o in others] == ["tiny-random-1", "tiny-random-2"]
    assert [o.finished() for o in others] == [3, 3] and {o.config.sampler for o in others} == {"random"}
    assert all(o.study.user_attrs["data"] == stored.study.user_attrs["data"] for o in others)
    assert len({str(found(s)) for s in (stored, *others)}) == 3
    assert all(r.test_accuracy is not None for o in others for r in front_rows(o))
    assert sum("random search with the same budget" in line for line in said.said) == 2

    seen = baseline_of(stored)
    assert seen is not None and (seen.candidates, seen.random_candidates) == (3, 3)
    everything = np.array([p for s in (stored, *others) for p in points(s)])
    reference = everything.max(axis=0) * [1.05, 1] + [0, 0.01]
    whole, *each = (
        compute_hypervolume(np.array(p), reference) for p in (everything, *(points(s) for s in (stored, *others)))
    )
    assert [seen.share, *seen.random_shares] == pytest.approx([volume / whole for volume in each])
    assert locate(str(tmp_path), None).config.name == "tiny"  # as `show FOLDER` and `export FOLDER` find it
    told = summary(locate("tiny", stored.url))["random_search"]
    assert told["share"] == pytest.approx(seen.share)

    again = search(config, tiny)  # nothing is left to do
    assert [found(s) for s in (again, *stored_baselines(again))] == [found(s) for s in (stored, *others)]


def test_the_teacher_is_trained_once(tiny: Registry, tmp_path: Path) -> None:
    said = Said()
    config = tiny_config(tmp_path, trials=1, techniques=["distill"], baseline="random", audit_trials=0)
    stored = search(config, tiny, said)
    assert sum(line.startswith("teacher:") for line in said.said) == 1
    [other] = stored_baselines(stored)
    files = [tmp_path / f"{study.config.name}.pt" for study in (stored, other)]
    assert all(s.download("teacher.pt", s.study, path) for s, path in zip((stored, other), files, strict=True))
    assert files[0].read_bytes() == files[1].read_bytes()
    assert other.study.user_attrs["teacher_accuracy"] == stored.study.user_attrs["teacher_accuracy"]


def test_the_interval_is_that_of_student() -> None:
    one = Baseline(0.9, 40, 100.0, (0.5,), 40, 120.0)
    assert one.half_width is None and "random search 50.0%, with 40 in 120 s" in describe(one)
    three = replace(one, random_shares=(0.5, 0.6, 0.7))
    spread = statistics.stdev((0.5, 0.6, 0.7)) / 3**0.5
    assert three.random_share == pytest.approx(0.6) and three.half_width == pytest.approx(4.302653 * spread)
    assert describe(three) == (
        "90.0% of the hypervolume of all, with 40 candidates in 100 s; "
        "random search 60.0% ± 24.8, with 3 seeds of 40 in 120 s"
    )


def test_a_study_without_one_says_nothing(tiny: Registry, tmp_path: Path) -> None:
    stored = search(tiny_config(tmp_path, trials=1, audit_trials=0), tiny)
    assert baseline_of(stored) is None and summary(stored)["random_search"] is None


def test_what_is_no_baseline_is_refused() -> None:
    with pytest.raises(UserError, match="--baseline is 'tpe': input should be 'random'"):
        make_config(None, {"baseline": "tpe"})
