"""How the trials of a compression stand to its goals."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from nas_edge.goals import Goal, Goals, Known, all_met, judge, total_excess
from nas_edge.records import TRAINING, Evaluation
from nas_edge.store.study import GOAL, START, StoredStudy, is_evaluated

if TYPE_CHECKING:
    from nas_edge.engine.session import Session

GIVEN = "the model as it was given"
NEAR = 1.1  # predictions err: what is so many times too slow may not be
FEW, MANY = 5, 15  # candidates turned down in a row
REJECTED = 100.0  # an excess above those of what was evaluated


def is_given(trial: FrozenTrial | optuna.Trial) -> bool:
    """Whether a trial is the model as it was given."""
    return trial.user_attrs.get(START) == GIVEN


def searched(trial: FrozenTrial) -> Known:
    """What the search found of a finished trial."""
    return Known(trial.values[0], trial.values[1], trial.user_attrs["size_bytes"])


def constrain_goals(
    session: Session, trial: optuna.Trial, others: Sequence[FrozenTrial], evaluation: Evaluation
) -> None:
    """Tell the sampler how far a trial is from each goal. Trials of an earlier run keep what they were told with.

    What was trained is held against the drop that a finalist's training will make good.
    """
    goals = session.config.goals
    given = _finished_given(others)
    if goals is None or (given is None and not is_given(trial)):
        return
    if goals.max_drop is not None and was_trained(evaluation):
        goals = goals.model_copy(update={"max_drop": goals.max_drop * session.recoverable})
    found = Known(evaluation.accuracy, evaluation.latency_ms, evaluation.size_bytes)
    for goal in judge(goals, searched(given) if given else found, found):
        trial.set_constraint(GOAL + goal.name, goal.excess)


def was_trained(evaluation: Evaluation) -> bool:
    """Whether a candidate was trained after its techniques: more training can change it."""
    return any(step.technique == TRAINING and step.undone is None for step in evaluation.steps)


def hopeless(
    session: Session, trial: optuna.Trial, others: Sequence[FrozenTrial], *, latency_ms: float, size_bytes: int
) -> str | None:
    """Why a candidate is not trained: it misses the goals whatever its accuracy will be. The sampler is told.

    Where goals are beyond reach, what comes nearest is wanted: after a few in a row one that is no farther than half
    of them is trained, after many any one.
    """
    goals, given = session.config.goals, _finished_given(others)
    if goals is None or given is None:
        return None
    base = searched(given)
    judged = judge(goals, base, Known(base.accuracy, latency_ms, size_bytes))
    missed = [goal for goal in judged if goal.excess > NEAR - 1]
    row = _turned_down(others)
    near = len(row) >= FEW and total_excess(judged) <= statistics.median(row)
    if not missed or near or len(row) >= MANY:
        return None
    for goal in judged:
        trial.set_constraint(GOAL + goal.name, goal.excess)
    said = ", ".join(f"{goal.name} {goal.reached:.3g} {goal.unit}, not {goal.wanted:g}" for goal in missed)
    return f"before training it misses: {said}"


def _turned_down(trials: Sequence[FrozenTrial]) -> list[float]:
    """How far from the goals those are that were turned down since a candidate was trained last."""
    row = []
    for trial in reversed(trials):
        if trial.state is TrialState.COMPLETE:
            break
        excess = sum(value for value in trial.constraints.values() if value > 0)
        if trial.state is TrialState.PRUNED and excess < REJECTED:
            row.append(excess)
    return row


def mark_rejected(goals: Goals | None, trial: optuna.Trial) -> None:
    """Tell the sampler that a candidate came to nothing: without constraints it would pass for one that meets them."""
    if goals is not None and not trial.storage.get_trial(trial._trial_id).constraints:
        trial.set_constraint(GOAL + "rejected", REJECTED)


def _finished_given(trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
    return next((t for t in trials if is_evaluated(t) and is_given(t)), None)


@dataclass(frozen=True)
class Standing:
    """One trial: what is known of it, whether its latency was measured, and how it stands to the goals.

    `tested` says that it was finalised, perhaps after more training. `hoped` says that it meets the goals if its
    latency is as far below the prediction as may be.
    """

    trial: FrozenTrial
    known: Known
    measured: bool
    tested: bool
    goals: tuple[Goal, ...]
    hoped: bool

    @property
    def met(self) -> bool:
        return all_met(self.goals)

    @property
    def product(self) -> float:
        """Of latency and size: less is faster and smaller."""
        return self.known.latency_ms * self.known.size_bytes


@dataclass(frozen=True)
class Standings:
    """All finished trials of a compression, the nearest to the goals first; `given` is the model as it came.

    Of those that meet the goals the most accurate is first, for that is what goals leave open; where the drop is the
    only goal, the fastest and smallest.
    """

    goals: Goals
    given: Standing
    ranked: tuple[Standing, ...]

    @classmethod
    def of(cls, stored: StoredStudy) -> Standings | None:
        """None for a search, and before the given model was evaluated."""
        goals, trials = stored.config.goals, stored.evaluated()
        given = _finished_given(trials)
        if goals is None or given is None:
            return None
        finals = stored.tables.finals(stored.config.name)
        measured = stored.tables.measurements(stored.target_key)
        seen = {t.number: _known(t, finals.get(t.number), measured) for t in trials}
        base = seen[given.number][0]
        standings = []
        for trial in trials:
            known, was_measured = seen[trial.number]
            hoped = known if was_measured else replace(known, latency_ms=known.latency_ms / NEAR)
            standings.append(
                Standing(
                    trial,
                    known,
                    was_measured,
                    trial.number in finals,
                    tuple(judge(goals, base, known)),
                    all_met(judge(goals, base, hoped)),
                )
            )
        first = next(s for s in standings if s.trial.number == given.number)

        def order(standing: Standing) -> tuple[float, ...]:
            accuracy = standing.known.accuracy if goals.end and standing.met else 0.0
            return total_excess(standing.goals), -accuracy, standing.product, standing.trial.number

        return cls(goals, first, tuple(sorted(standings, key=order)))

    @property
    def winner(self) -> Standing | None:
        """A trial that meets all goals by measured latencies; None where more trials can always gain more."""
        if not self.goals.end or not self.given.measured:
            return None
        return next((s for s in self.ranked if s.measured and s.met), None)

    @property
    def promising(self) -> list[FrozenTrial]:
        """Trials that may meet all goals and were not measured, with the given model to compare them with."""
        if not self.goals.end:
            return []
        found = [s.trial for s in self.ranked if s.hoped and not s.measured]
        if not self.given.measured and self.given.trial not in found and any(s.hoped for s in self.ranked):
            found.append(self.given.trial)
        return found

    @property
    def best(self) -> Standing:
        """The trial to ship: of those that were tested and measured, else of all; by validation accuracy.

        It is the model as it was given only where this meets the goals too, or there is no other.
        """
        changed = [s for s in self.ranked if s.trial.number != self.given.trial.number or s.met] or self.ranked
        return next((s for s in changed if s.tested and s.measured), changed[0])


def _known(trial: FrozenTrial, final: Mapping[str, Any] | None, measured: Mapping[str, Any]) -> tuple[Known, bool]:
    """What is known of a trial as it is now, and whether its latency was measured."""
    known, onnx_sha256 = searched(trial), trial.user_attrs["onnx_sha256"]
    if final is not None:
        onnx_sha256 = final["onnx_sha256"]
        known = Known(final["accuracy"], final["predicted_ms"] or known.latency_ms, final["size_bytes"])
    found = measured.get(onnx_sha256)
    return (known, False) if found is None else (replace(known, latency_ms=found.p50_ms), True)
