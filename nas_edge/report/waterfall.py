"""What each step did to a candidate, and what each technique does to candidates in general."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from optuna.trial import FrozenTrial

from nas_edge.engine.recipes import read_recipe
from nas_edge.errors import StorageError
from nas_edge.records import TRAINING, Evaluation, StepRecord
from nas_edge.report.front import FrontRow
from nas_edge.report.points import spread
from nas_edge.samplers.history import UNDONE
from nas_edge.spec import from_words
from nas_edge.store.study import StoredStudy

MOST_MEMBERS = 30  # of the front, whose steps are shown
MOST_RECIPES = 60  # of other candidates, for what a technique does in general
USELESS, COSTLY, OTHER = "neither faster nor smaller", "cost too much accuracy", "another reason"


@dataclass(frozen=True)
class Waterfall:
    """The steps of a member of the front in their order, those that were undone among them.

    `missing` says why they are not known.
    """

    number: int
    techniques: str
    steps: tuple[StepRecord, ...]
    missing: str | None = None


@dataclass(frozen=True)
class TechniqueEffect:
    """A technique over the whole study.

    It was on in `tried` candidates that were evaluated, and undone in `undone` of them. The rest is of the `read`
    candidates whose records were read: in `stood` of them it stood, and changed latency and bytes by the medians (of
    the ratio after to before, less 1; None where it is not known) from before its first step to after its last.
    `accuracy` is the median difference, as a fraction. What one training recovers together has its accuracy together:
    from before the first of those steps to after that training. `why_undone` counts the reasons, and `example` is one
    of them.
    """

    name: str
    tried: int
    undone: int
    read: int
    stood: int
    latency: float | None
    size: float | None
    accuracy: float | None
    why_undone: dict[str, int]
    example: str | None


def waterfalls(stored: StoredStudy, front: Sequence[FrontRow]) -> list[Waterfall]:
    """Those of the front's first members, the most accurate first."""
    found = []
    for row in front[:MOST_MEMBERS]:
        try:
            _, evaluation = read_recipe(stored, stored.trial(row.number), final=row.trained_longer)
            found.append(Waterfall(row.number, row.techniques, evaluation.steps))
        except StorageError as error:
            found.append(Waterfall(row.number, row.techniques, (), str(error)))
    return found


def effects(stored: StoredStudy) -> list[TechniqueEffect]:
    """Those of all techniques that were on in some candidate, by name."""
    trials = stored.evaluated()
    tried: Counter[str] = Counter()
    undone: Counter[str] = Counter()
    for trial in trials:
        off = trial.user_attrs.get(UNDONE, [])
        tried.update({*from_words(trial.user_attrs["techniques"]), *off})
        undone.update(off)
    read = [e for t in spread(trials, MOST_RECIPES) if (e := _evaluation(stored, t)) is not None]
    return [_effect(name, tried[name], undone[name], read) for name in sorted(tried)]


def _evaluation(stored: StoredStudy, trial: FrozenTrial) -> Evaluation | None:
    try:
        return read_recipe(stored, trial, final=False)[1]
    except StorageError:  # some other candidate tells as much
        return None


def _effect(name: str, tried: int, undone: int, read: Sequence[Evaluation]) -> TechniqueEffect:
    own = [e.steps for e in read if any(s.technique == name for s in e.steps)]
    changes = [change for steps in own if (change := change_of(name, steps)) is not None]
    reasons = [s.undone for steps in own if (s := _undoing(name, steps)) is not None and s.undone]
    latency, size, accuracy = (_median([change[i] for change in changes]) for i in range(3))
    why = dict(Counter(map(kind_of_reason, reasons)).most_common())
    example = reasons[0] if reasons else None
    return TechniqueEffect(name, tried, undone, len(own), len(changes), latency, size, accuracy, why, example)


def _undoing(name: str, steps: Sequence[StepRecord]) -> StepRecord | None:
    """The step at which a technique was undone for itself, not only made again without another one."""
    if any(s.technique == name and s.undone is None for s in steps):
        return None
    return next((s for s in steps if s.technique == name and kind_of_reason(s.undone or "") != OTHER), None)


def kind_of_reason(why: str) -> str:
    """Which of the gate's two rules undid a step."""
    if why.startswith("neither faster"):
        return USELESS
    return COSTLY if why.startswith("accuracy ") else OTHER


def change_of(name: str, steps: Sequence[StepRecord]) -> tuple[float | None, float | None, float | None] | None:
    """What a technique that stood changed of latency, bytes and accuracy; None where it did not stand."""
    standing = [s for s in steps if s.undone is None]
    places = [i for i, s in enumerate(standing) if s.technique == name]
    if not places:
        return None
    first, last = places[0], places[-1]
    before, after = standing[first].before, standing[last].after
    trainings = [i for i, s in enumerate(standing) if s.technique == TRAINING]
    recovery = next((i for i in trainings if i > first), None)
    whole, settled = first, last
    if recovery is not None:
        whole, settled = max((i + 1 for i in trainings if i < first), default=0), max(last, recovery)
    had, has = standing[whole].before.accuracy, standing[settled].after.accuracy
    same = before.latency_source == after.latency_source
    return (
        _ratio(before.latency_ms, after.latency_ms) if same else None,
        _ratio(before.size_bytes, after.size_bytes),
        None if had is None or has is None else has - had,
    )


def _ratio(before: float | None, after: float | None) -> float | None:
    return None if not before or after is None else after / before - 1


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None
