"""Findings in plain words: each against studies in which its figures are known, and silent where there is nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from nas_edge.goals import Goals
from nas_edge.report.baseline import Baseline
from nas_edge.report.findings import findings
from nas_edge.report.front import front_rows
from nas_edge.report.waterfall import COSTLY, USELESS, TechniqueEffect, effects, waterfalls
from nas_edge.report.whole import StudyReport
from nas_edge.store.study import StoredStudy

from . import made
from .made import hand_made, made_study


def told(
    stored: StoredStudy,
    about: str,
    effects: list[TechniqueEffect] | None = None,
    random_search: Baseline | None = None,
) -> list[str]:
    """What is said about something, of a study in which nothing else is known."""
    found = findings(stored, front_rows(stored), [], effects or [], None, random_search, None)
    return [finding.text for finding in found if finding.about == about]


def test_the_front_is_told_by_its_ends(tmp_path: Path) -> None:
    stored = hand_made(tmp_path, [(0.95, 2.0), (0.9, 0.5), (0.85, 3.0)])
    (said,) = told(stored, "front")
    assert said == (
        "The most accurate candidate is trial 0: 95.0% on validation in 2 ms. The fastest of the 2 best trade-offs, "
        "trial 1, takes 0.5 ms: 4.0 times as fast, for 5.0 points of accuracy."
    )


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        ([(0.9, 3.0), (0.89, 2.0)], "misses a goal (speedup): 1.5 times as fast"),
        ([(0.9, 3.0), (0.5, 2.0)], "misses a goal (accuracy drop, speedup)"),
        ([(0.9, 3.0)], "Nothing that was tried came nearer to the goals"),
    ],
)
def test_a_compression_is_told_by_its_goals(tmp_path: Path, found: list[tuple[float, float]], verdict: str) -> None:
    goals = Goals(max_drop=2.0, min_speedup=2.0)
    stored = hand_made(tmp_path, found, model="torchvision:resnet18", goals=goals, space="given")
    (said,) = (f.text for f in StudyReport.of(stored).findings if f.about == "goals")
    assert verdict in said


def test_without_a_front_the_study_says_how_its_trials_ended(tmp_path: Path) -> None:
    stored = hand_made(tmp_path, [(0.9, 2.0)], max_latency_ms=1.0)
    assert [f.text for f in findings(stored, [], [], [], None, None, None)] == ["No candidate stands yet: 1 complete."]


def test_techniques_that_were_undone_are_told_with_counts_and_reason(tmp_path: Path) -> None:
    stored = made_study(tmp_path).snapshot()
    found, steps = effects(stored), waterfalls(stored, front_rows(stored))
    quantize = next(e for e in found if e.name == "quantize")
    said = [f.text for f in findings(stored, front_rows(stored), steps, found, None, None, None) if f.about == "undone"]
    (line,) = [text for text in said if text.startswith("quantize")]
    assert f"undone in {quantize.undone} of the {quantize.tried} candidates that tried it" in line
    tried = [w for w in steps if any(s.technique == "quantize" for s in w.steps)]
    off = [w for w in tried if any(s.technique == "quantize" and s.undone for s in w.steps)]
    assert (f"in {len(off)} of the {len(tried)} best trade-offs" in line) == bool(off)
    assert f'neither faster nor smaller here ("{made.USELESS}")' in line


def effect(name: str = "quantize", **changes: object) -> TechniqueEffect:
    plain = TechniqueEffect(name, 20, 0, 10, 10, None, None, None, {}, None)
    return replace(plain, **changes)  # type: ignore[arg-type]


def test_mixed_reasons_name_the_most_common(tmp_path: Path) -> None:
    stored = hand_made(tmp_path, [(0.9, 1.0)])
    mixed = effect(undone=12, why_undone={COSTLY: 2, USELESS: 7}, example=made.COSTLY)
    (said,) = told(stored, "undone", [mixed])
    assert said == (
        "quantize was undone in 12 of the 20 candidates that tried it: it made the file neither faster nor smaller "
        "here in 7 of the 9 records that were read."
    )


def test_what_helped_is_ordered_and_what_hurt_is_told(tmp_path: Path) -> None:
    stored = hand_made(tmp_path, [(0.9, 1.0)])
    known = [
        effect("prune", latency=-0.12, size=-0.3, accuracy=-0.004),
        effect("low_rank", latency=-0.25, size=0.0),
        effect("quantize", latency=0.15, size=-0.6),
        effect("rare", latency=-0.9, size=-0.9, stood=2),
        effect("idle", latency=-0.01, size=0.01),
    ]
    (faster,) = told(stored, "speed", known)
    assert faster == (
        "What made candidates faster: low_rank by 25% (median of 10 candidates); prune by 12% (median of 10 "
        "candidates, which lost 0.4 points of accuracy)."
    )
    (smaller,) = told(stored, "size", known)
    assert smaller.index("quantize by 60%") < smaller.index("prune by 30%") and "low_rank" not in smaller
    (slower,) = told(stored, "technique", known)
    assert slower.startswith("quantize made candidates 15% slower on this device and 60% smaller")


@pytest.mark.parametrize(
    ("shares", "words"),
    [
        ((0.7,), "found more than random search"),
        ((0.95,), "found no more than random search"),
        ((0.7, 0.71, 0.69), "found more than random search"),
        ((0.6, 1.0, 0.8), "is not to be told apart from random search"),
    ],
)
def test_random_search_is_beaten_only_beyond_its_spread(tmp_path: Path, shares: tuple[float, ...], words: str) -> None:
    stored = hand_made(tmp_path, [(0.9, 1.0)])
    (said,) = told(stored, "random search", random_search=Baseline(0.9, 40, 1.0, shares, 40, 1.0))
    assert words in said and "90.0% of the hypervolume" in said
    assert ("±" in said) == (len(shares) > 1)


def test_gaps_and_plateaus_are_told_where_they_are(tmp_path: Path) -> None:
    wide = hand_made(tmp_path / "wide", [(0.9, 1.0), (0.91, 1.1), (0.99, 4.0)])
    (gap,) = told(wide, "gap")
    assert "between trial 1 (91.0%, 1.1 ms) and trial 2 (99.0%, 4 ms)" in gap and "a factor of 3.6" in gap
    even = hand_made(tmp_path / "even", [(0.9 + i / 100, 1.2**i) for i in range(8)])
    assert told(even, "gap") == []
    settled = hand_made(tmp_path / "settled", [(0.9, 1.0), *[(0.5, 2.0)] * 25])
    assert told(settled, "plateau")[0].startswith("The last 25 of 26 candidates")
    moving = hand_made(tmp_path / "moving", [*[(0.5, 2.0)] * 25, (0.9, 1.0)])
    assert told(moving, "plateau") == []


def test_the_whole_study_is_told_with_its_own_figures(tmp_path: Path) -> None:
    report = StudyReport.of(made_study(tmp_path, baseline="random"))
    said = {f.about: f.text for f in report.findings}
    assert "12 candidates were turned down" in said["saved"] and "6 candidates were proposed again" in said["saved"]
    assert said["failed"] == "6 trials failed, all with: RuntimeError: the loss is not finite"
    assert "0.5 points lower than on validation" in said["test split"]
    lines = [f.text for f in report.findings if f.about == "predictions"]
    assert "off by 2.0% in the median on 8 random candidates" in lines[0] and "3.0% was stated" in lines[0]
    assert "4.0% slower than predicted" in lines[1]
    assert "random search" in said


def test_over_the_limit_after_measuring_is_told(tmp_path: Path) -> None:
    stored = made_study(tmp_path, max_latency_ms=0.1)
    rows = [replace(front_rows(stored)[0], latency_ms=0.1234, within_budget=False), *front_rows(stored)[1:]]
    found = {f.about: f.text for f in findings(stored, rows, [], [], None, None, None)}
    assert f"trial {rows[0].number} (0.123 ms)" in found["limit"] and "0.1 ms" in found["limit"]


def test_an_audit_that_found_nothing_steady_says_so(tmp_path: Path) -> None:
    stored = hand_made(tmp_path, [(0.9, 1.0)])
    audit = {"audited": 0, "unstable": [{"trial": 0}, {"trial": 1}], "stated": {}}
    found = [
        f.text for f in findings(stored, front_rows(stored), [], [], audit, None, None) if f.about == "predictions"
    ]
    assert found == ["No prediction could be checked: 2 candidates were measured while the device was not steady."]


def test_a_measurement_that_may_be_wrong_is_doubted_and_compared_with_nothing(tmp_path: Path) -> None:
    stored = made_study(tmp_path)
    rows = front_rows(stored)
    shaky = [replace(rows[0], unstable_because="the device slowed down", measured_ms=9.0), *rows[1:]]
    found = {f.about: f.text for f in findings(stored, shaky, [], [], None, None, None)}
    assert found["measurements"] == (
        f"1 of the {len(rows)} best trade-offs may have been measured wrongly, such as trial {rows[0].number}: "
        "the device slowed down."
    )
    assert f"The {len(rows) - 1} best trade-offs that were measured are 4.0% slower" in found["predictions"]
