"""What a study shows, in plain words, each with its figures. Only what its data says."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from optuna.trial import TrialState

from nas_edge.report.baseline import Baseline
from nas_edge.report.compression import Compression
from nas_edge.report.front import FrontRow
from nas_edge.report.technique_findings import LEAST_CHANGE, LEAST_TO_JUDGE, helped, hurt, undone
from nas_edge.report.waterfall import TechniqueEffect, Waterfall
from nas_edge.report.words import ms
from nas_edge.store.study import REPEAT_OF, StoredStudy

PLATEAU = 20  # candidates, and a tenth of all, without a new member of the front
GAP = 0.3  # of the front's width, in ratios of latency
LEAST_GAP = 1.25  # times slower


@dataclass(frozen=True)
class Finding:
    """One finding: what it is about, and what is to be said of it."""

    about: str
    text: str


def findings(
    stored: StoredStudy,
    front: Sequence[FrontRow],
    waterfalls: Sequence[Waterfall],
    effects: Sequence[TechniqueEffect],
    audit: Mapping[str, Any] | None,
    random_search: Baseline | None,
    compression: Compression | None,
) -> list[Finding]:
    """Those that the data supports, the most important first."""
    if not front:
        return [Finding("front", f"No candidate stands yet: {_ends(stored)}.")]
    found = [
        ("goals", _goals(compression)),
        ("front", _best(front)),
        ("limit", _over_limit(stored, front)),
        ("random search", _random(random_search)),
        *(("undone", text) for text in undone(waterfalls, effects)),
        ("speed", helped(effects, "latency", "faster")),
        ("size", helped(effects, "size", "smaller")),
        *(("technique", text) for text in hurt(effects)),
        ("predictions", _predictions(audit)),
        ("predictions", _outside(front)),
        ("measurements", _unstable(front)),
        ("test split", _test_split(stored, front)),
        ("gap", _gap(front)),
        ("plateau", _plateau(stored)),
        ("saved", _saved(stored)),
        ("failed", _failed(stored)),
    ]
    return [Finding(about, text) for about, text in found if text]


def _ends(stored: StoredStudy) -> str:
    states = Counter(t.state.name.lower() for t in stored.trials())
    return ", ".join(f"{number} {state}" for state, number in states.most_common()) or "there is no trial"


def _goals(compression: Compression | None) -> str | None:
    if compression is None:
        return None
    given, best = compression.baseline, compression.best
    if given.number == best.number:
        return "Nothing that was tried came nearer to the goals than the model as it was given."
    missed = [goal.name for goal in compression.goals if not goal.met]
    verdict = f"misses a goal ({', '.join(missed)})" if missed else "meets all goals"
    tested = best.test_accuracy is not None and given.test_accuracy is not None
    lost = (given.test_accuracy or 0) - (best.test_accuracy or 0) if tested else given.accuracy - best.accuracy
    return (
        f"Trial {best.number} is the one to ship, and {verdict}: {given.latency_ms / best.latency_ms:.2g} times as "
        f"fast as the model that was given, its file {1 - best.size_bytes / given.size_bytes:.0%} smaller, for "
        f"{100 * lost:.2f} points of accuracy on the {'test split' if tested else 'validation split'} "
        f"({best.techniques})."
    )


def _best(front: Sequence[FrontRow]) -> str:
    best, fastest = front[0], min(front, key=lambda row: row.latency_ms)
    said = f"The most accurate candidate is trial {best.number}: {_accuracy(best)} in {ms(best.latency_ms)}"
    if fastest.number == best.number:
        return f"{said}. Nothing faster was worth its loss of accuracy."
    times, points = best.latency_ms / fastest.latency_ms, 100 * (best.accuracy - fastest.accuracy)
    return (
        f"{said}. The fastest of the {len(front)} best trade-offs, trial {fastest.number}, takes "
        f"{ms(fastest.latency_ms)}: {times:.1f} times as fast, for {points:.1f} points of accuracy."
    )


def _over_limit(stored: StoredStudy, front: Sequence[FrontRow]) -> str | None:
    limit, over = stored.config.max_latency_ms, [row for row in front if not row.within_budget]
    if limit is None or not over:
        return None
    named = ", ".join(f"{row.number} ({ms(row.latency_ms)})" for row in over)
    return f"Over the limit of {limit:g} ms after all, by what is known now: trial {named}."


def _random(found: Baseline | None) -> str | None:
    if found is None:
        return None
    half, seeds = found.half_width, len(found.random_shares)
    gained, spread = found.share - found.random_share, "" if half is None else f" ± {100 * half:.1f}"
    verdict = "found more than" if gained > 0 else "found no more than"
    if half is not None and abs(gained) <= half:
        verdict = "is not to be told apart from"
    budget = f"{found.random_candidates} candidates" + (f", {seeds} seeds" if seeds > 1 else ", one seed")
    return (
        f"The search {verdict} random search with as many candidates: {found.share:.1%} of the hypervolume of all "
        f"fronts together, random search {found.random_share:.1%}{spread} ({budget})."
    )


def _predictions(audit: Mapping[str, Any] | None) -> str | None:
    if audit is None:
        return None
    if not audit["audited"]:
        shaky = len(audit["unstable"])
        said = f"{_candidates(shaky)} measured while the device was not steady"
        return f"No prediction could be checked: {said}." if shaky else None
    stated, above = audit["stated"], audit["above_stated_q90"]
    said = (
        f"Predicted latencies were off by {audit['median']:.1%} in the median on {audit['audited']} random candidates "
        f"that were measured; {stated['median']:.1%} was stated"
    )
    said += f". {above} of them erred by more than nine in ten should ({stated['q90']:.1%})" if above else ""
    times = len(audit["earlier"])
    return f"{said}." + (f" The device was calibrated again {_times(times)} during the study." if times else "")


def _outside(front: Sequence[FrontRow]) -> str | None:
    steady = [row for row in front if not row.unstable_because]
    pairs = [(row.predicted_ms, row.measured_ms) for row in steady if row.predicted_ms and row.measured_ms]
    if not pairs:
        return None
    ratios = [measured / predicted - 1 for predicted, measured in pairs]
    middle = statistics.median(ratios)
    word = "slower" if middle > 0 else "faster"
    if abs(middle) < LEAST_CHANGE:
        return f"The {len(pairs)} best trade-offs that were measured run as predicted: {middle:+.1%} in the median."
    return (
        f"The {len(pairs)} best trade-offs that were measured are {abs(middle):.1%} {word} than predicted in the "
        f"median, {min(ratios):+.1%} to {max(ratios):+.1%}."
        + (" Choosing by predictions favours what is predicted too fast." if middle > 0 else "")
    )


def _unstable(front: Sequence[FrontRow]) -> str | None:
    shaky = [row for row in front if row.unstable_because]
    if not shaky:
        return None
    return (
        f"{len(shaky)} of the {len(front)} best trade-offs may have been measured wrongly, such as trial "
        f"{shaky[0].number}: {shaky[0].unstable_because}."
    )


def _test_split(stored: StoredStudy, front: Sequence[FrontRow]) -> str | None:
    falls = [row.accuracy - row.test_accuracy for row in front if row.test_accuracy is not None]
    images = (stored.study.user_attrs.get("data") or {}).get("images")
    if not falls or not images:
        return None
    mean = statistics.mean(row.test_accuracy for row in front if row.test_accuracy is not None)
    chance = math.sqrt(mean * (1 - mean) * (1 / images[1] + 1 / images[2]))
    fall, word = statistics.mean(falls), "lower" if statistics.mean(falls) >= 0 else "higher"
    return (
        f"On the test split, which nothing was chosen by, accuracy is {100 * abs(fall):.1f} points {word} than on "
        f"validation (mean of {len(falls)}); the difference for one model is uncertain by {100 * chance:.1f} points "
        f"(standard error, {images[1]:,} and {images[2]:,} images)."
    )


def _gap(front: Sequence[FrontRow]) -> str | None:
    """The widest hole of the front along latency, where it is wide."""
    by_latency = sorted(front, key=lambda row: row.latency_ms)
    if len(by_latency) < LEAST_TO_JUDGE or by_latency[-1].latency_ms <= by_latency[0].latency_ms:
        return None
    ratio, fast, slow = max(
        ((b.latency_ms / a.latency_ms, a, b) for a, b in pairwise(by_latency)),
        key=lambda gap: gap[0],
    )
    width = math.log(by_latency[-1].latency_ms / by_latency[0].latency_ms)
    if math.log(ratio) < GAP * width or ratio < LEAST_GAP:
        return None
    return (
        f"The front has a gap: between trial {fast.number} ({fast.accuracy:.1%}, {ms(fast.latency_ms)}) and trial "
        f"{slow.number} ({slow.accuracy:.1%}, {ms(slow.latency_ms)}) there is nothing, a factor of {ratio:.1f}."
    )


def _plateau(stored: StoredStudy) -> str | None:
    evaluated = stored.evaluated()
    newest = max(t.number for t in stored.front())
    since = sum(t.number > newest for t in evaluated)
    if since < max(PLATEAU, len(evaluated) // 10):
        return None
    return (
        f"The last {since} of {len(evaluated)} candidates brought no new best trade-off: more trials would gain little."
    )


def _saved(stored: StoredStudy) -> str | None:
    stopped = sum(t.state is TrialState.PRUNED for t in stored.trials())
    repeats = sum(REPEAT_OF in t.user_attrs for t in stored.trials())
    said = []
    if stopped:
        said.append(f"{_candidates(stopped)} turned down before or during the training")
    if repeats:
        said.append(f"{_candidates(repeats)} proposed again and answered from the store")
    return f"{' and '.join(said)}, which saved time." if said else None


def _failed(stored: StoredStudy) -> str | None:
    failed = [t for t in stored.trials(TrialState.FAIL) if not t.user_attrs.get("interrupted")]
    if not failed:
        return None
    reasons = Counter(t.user_attrs.get("why", "no reason was kept").removeprefix("failed: ") for t in failed)
    why, number = reasons.most_common(1)[0]
    most = "all" if number == len(failed) else f"{number} of them"
    return f"{_trials(len(failed))} failed, {most} with: {why}"


def _accuracy(row: FrontRow) -> str:
    if row.test_accuracy is None:
        return f"{row.accuracy:.1%} on validation"
    return f"{row.test_accuracy:.1%} on the test split"


def _candidates(count: int) -> str:
    return "1 candidate was" if count == 1 else f"{count} candidates were"


def _trials(count: int) -> str:
    return "1 trial" if count == 1 else f"{count} trials"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
