"""What each step did: against the records, and the medians of techniques against what the study was made by."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from nas_edge.engine.recipes import read_recipe
from nas_edge.records import TRAINING, Figures, StepRecord
from nas_edge.report.front import front_rows
from nas_edge.report.page import waterfall_rows
from nas_edge.report.waterfall import COSTLY, USELESS, change_of, effects, kind_of_reason, waterfalls

from . import made
from .made import made_study


def test_the_steps_of_the_front_are_those_of_its_recipes(tmp_path: Path) -> None:
    stored = made_study(tmp_path).snapshot()
    rows = front_rows(stored)
    found = waterfalls(stored, rows)
    assert [w.number for w in found] == [row.number for row in rows]
    for waterfall in found:
        _, evaluation = read_recipe(stored, stored.trial(waterfall.number), final=False)
        assert waterfall.steps == evaluation.steps
        standing = [s.after for s in waterfall.steps if s.undone is None and s.after.latency_ms is not None]
        assert standing[-1].latency_ms == pytest.approx(evaluation.latency_ms)
        assert standing[-1].size_bytes == evaluation.size_bytes


def test_a_recipe_that_is_gone_is_said_to_be(tmp_path: Path) -> None:
    stored = made_study(tmp_path)
    first = front_rows(stored)[0]
    (tmp_path / "artifacts" / f"recipe-made-{first.number}").unlink()
    (found, *_) = waterfalls(stored, [first])
    assert found.steps == ()
    assert found.missing is not None and "recipe.json" in found.missing and str(first.number) in found.missing


def test_techniques_have_the_effects_that_the_study_was_made_with(tmp_path: Path) -> None:
    stored = made_study(tmp_path).snapshot()
    distill, prune, quantize = effects(stored)
    assert [e.name for e in (distill, prune, quantize)] == ["distill", "prune", "quantize"]
    assert quantize.latency == pytest.approx(0.7 - 1)
    assert quantize.size == pytest.approx(made.SIZE - 1, abs=1e-3)
    assert quantize.accuracy == pytest.approx(-0.002)
    assert prune.latency is not None and -0.25 < prune.latency < -0.05  # half of ratios of 0.1 to 0.45
    assert prune.size == pytest.approx(prune.latency, abs=1e-3)
    assert prune.accuracy is not None and -0.45 / 50 <= prune.accuracy <= -0.1 / 50  # after recovery, not before it
    assert (distill.latency, distill.size, distill.accuracy) == (None, None, None)


def test_what_was_undone_is_counted_with_its_reason(tmp_path: Path) -> None:
    stored = made_study(tmp_path)
    trials = stored.evaluated()
    distill, prune, quantize = effects(stored)
    for effect in (distill, prune, quantize):
        on = [t for t in trials if t.params[f"{effect.name}.enabled"]]
        assert effect.tried == len(on)
        assert effect.undone == sum(effect.name in t.user_attrs.get("undone", []) for t in on)
        assert effect.read == len(on)  # there are fewer than are read at most
        assert effect.stood == effect.read - effect.undone
    assert quantize.why_undone == {USELESS: quantize.undone} and quantize.undone > 0
    assert prune.why_undone == {COSTLY: prune.undone} and prune.undone > 0
    assert (quantize.example, prune.example) == (made.USELESS, made.COSTLY)


def test_reasons_are_told_apart() -> None:
    assert kind_of_reason(made.USELESS) == USELESS
    assert kind_of_reason(made.COSTLY) == COSTLY
    assert kind_of_reason(made.AGAIN) not in (USELESS, COSTLY)


def test_bars_run_from_before_to_after_on_one_scale(tmp_path: Path) -> None:
    stored = made_study(tmp_path)
    for waterfall in waterfalls(stored, front_rows(stored)):
        steps = waterfall_rows(waterfall)
        most = max(v for s in waterfall.steps for v in (s.before.latency_ms, s.after.latency_ms) if v is not None)
        for step, (latency, *_, accuracy) in steps:
            if step.after.latency_ms is None or step.before.latency_ms is None:
                assert latency is None and accuracy is None
                continue
            assert latency is not None
            low, high = sorted((step.before.latency_ms, step.after.latency_ms))
            assert latency.left == pytest.approx(100 * low / most)
            assert latency.width == pytest.approx(max(1.5, 100 * (high - low) / most))
            faster = step.after.latency_ms < step.before.latency_ms
            expected = "undone" if step.undone else "same" if low == high else "better" if faster else "worse"
            assert latency.kind == expected


def test_what_one_training_recovers_shares_its_accuracy() -> None:
    """Trained, cut, factored, recovered, and rounded: in order, with the accuracy after each."""
    names = (TRAINING, "prune", "low_rank", TRAINING, "quantize")
    sizes, accuracies = (100, 100, 80, 60, 60, 15), (0.0, 0.9, 0.8, 0.7, 0.88, 0.87)
    figures = [Figures(size_bytes=b, accuracy=a) for b, a in zip(sizes, accuracies, strict=True)]
    steps = [StepRecord(name, "", 1.0, *pair) for name, pair in zip(names, pairwise(figures), strict=True)]
    found = [change_of(name, steps) for name in ("prune", "low_rank", "quantize")]
    assert [change and change[1:] for change in found] == [
        pytest.approx(pair) for pair in ((-0.2, -0.02), (-0.25, -0.02), (-0.75, -0.01))
    ]
