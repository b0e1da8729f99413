"""What a study shows of its techniques, in plain words: what was undone and why, what helped, what hurt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from nas_edge.report.waterfall import COSTLY, OTHER, USELESS, TechniqueEffect, Waterfall, kind_of_reason

LEAST_TO_JUDGE = 3  # candidates, before a median says something of a technique
LEAST_CHANGE = 0.02  # of a latency or a size, that is worth a word


def undone(waterfalls: Sequence[Waterfall], effects: Sequence[TechniqueEffect]) -> Iterator[str]:
    """Techniques that the gate took back, on the front and in the whole study, with the gate's own words."""
    tried, taken_back, why = _on_the_front(waterfalls)
    for effect in sorted(effects, key=lambda e: -e.undone):
        if not effect.undone:
            continue
        name, on_front = effect.name, ""
        if taken_back[name]:
            on_front = f", and in {taken_back[name]} of the {tried[name]} best trade-offs that tried it"
        reasons = effect.why_undone or why[name]
        yield (
            f"{name} was undone in {effect.undone} of the {effect.tried} candidates that tried it{on_front}"
            f"{_cause(reasons, effect.example)}."
        )


def _on_the_front(waterfalls: Sequence[Waterfall]) -> tuple[Counter[str], Counter[str], dict[str, Counter[str]]]:
    """In how many members each technique was tried, in how many undone, and why."""
    tried: Counter[str] = Counter()
    undone: Counter[str] = Counter()
    why: dict[str, Counter[str]] = {}
    for waterfall in waterfalls:
        by_name: dict[str, list[str | None]] = {}
        for step in waterfall.steps:
            by_name.setdefault(step.technique, []).append(step.undone)
        for name, ends in by_name.items():
            tried[name] += 1
            reasons = why.setdefault(name, Counter())
            if None not in ends:
                undone[name] += 1
                reasons[next((k for e in ends if e and (k := kind_of_reason(e)) != OTHER), OTHER)] += 1
    return tried, undone, why


def _cause(reasons: Mapping[str, int], example: str | None) -> str:
    """Why, by the records that were read: the reason that most of them give."""
    if not reasons:
        return ""
    reason, number = max(reasons.items(), key=lambda item: item[1])
    total = sum(reasons.values())
    said = {USELESS: "it made the file neither faster nor smaller here", COSTLY: "it cost too much accuracy"}
    of = f" in {number} of the {total} records that were read" if number < total else ""
    words = f' ("{example}")' if example and kind_of_reason(example) == reason else ""
    return f": {said.get(reason, reason)}{of}{words}"


def helped(effects: Sequence[TechniqueEffect], figure: str, word: str) -> str | None:
    """Which techniques changed a figure for the better, by their medians."""
    judged = [(e, getattr(e, figure)) for e in effects if e.stood >= LEAST_TO_JUDGE and getattr(e, figure) is not None]
    helped = sorted(((e, c) for e, c in judged if c <= -LEAST_CHANGE), key=lambda pair: pair[1])
    if not helped:
        return None
    said = [f"{e.name} by {-c:.0%} (median of {e.stood} candidates{_which(e.accuracy)})" for e, c in helped]
    return f"What made candidates {word}: " + "; ".join(said) + "."


def _which(accuracy: float | None) -> str:
    """What became of the candidates' accuracy: others may have stood beside the technique."""
    points = round(100 * (accuracy or 0.0), 1)
    if not points:
        return ""
    return f", which {'gained' if points > 0 else 'lost'} {abs(points):.1f} points of accuracy"


def hurt(effects: Sequence[TechniqueEffect]) -> Iterator[str]:
    """Techniques that stood although they made candidates slower."""
    for e in effects:
        if e.stood >= LEAST_TO_JUDGE and e.latency is not None and e.latency >= LEAST_CHANGE:
            smaller = f" and {-e.size:.0%} smaller" if e.size is not None and e.size <= -LEAST_CHANGE else ""
            yield (
                f"{e.name} made candidates {e.latency:.0%} slower on this device{smaller} where it stood (median of "
                f"{e.stood} candidates)."
            )
