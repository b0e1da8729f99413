"""Which candidates are not trained, or not to the end: those that are refused, and those that could not be chosen.

A candidate's latency and size are known before its training, from a draft of its ONNX file; its accuracy is bounded by
what the study's finished candidates make plausible, and seen on the way.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from nas_edge.contracts import Context
from nas_edge.engine.rungs import RUNGS, place, stays
from nas_edge.engine.session import Session
from nas_edge.engine.standing import hopeless
from nas_edge.engine.zero_cost import SCORES, plausible_accuracy
from nas_edge.evaluate import Draft, make_draft
from nas_edge.pipeline import build_model
from nas_edge.samplers.history import PARTIAL, UNDONE, History, effective_params
from nas_edge.samplers.surrogate import objective
from nas_edge.spec import CandidateSpec
from nas_edge.store.study import StoredStudy, is_evaluated
from nas_edge.train import zero_cost
from nas_edge.train.trainer import Milestones

DRAFT_MARGIN = 1.25  # on random weights low ranks come out higher than on trained ones
LEAST_FINISHED = 16  # candidates, before their accuracies say what is plausible
PLAUSIBLE = 2.6  # standard deviations above what is expected: one candidate of 200 is better
MOST_TURNED_DOWN = 3  # in a row after their training
RUNG = "rung "  # begins the name of a trial's attribute: its values there


def is_turned_down(trial: FrozenTrial) -> bool:
    """Whether a candidate was trained, and then not worth another training without what was undone."""
    return trial.state is TrialState.PRUNED and UNDONE in trial.user_attrs


class Rejected(Exception):
    """A candidate that is not worth training, or not to the end; the reason is the message."""


@dataclass(frozen=True)
class Outlook:
    """One candidate before its training, among the trials of its study."""

    session: Session
    stored: StoredStudy
    trial: optuna.Trial
    spec: CandidateSpec
    others: Sequence[FrozenTrial]

    def train_in(self, context: Context) -> Context:
        """The context to train the candidate in. Raises `Rejected`.

        No training is spent on what plugins refuse, what is too slow, what cannot meet the goals of a compression, and
        what cannot enter the front; the rest may be stopped on the way.
        """
        reasons = self.session.registry.hooks.hook.validate_candidate(spec=self.spec, context=context)
        if reasons:
            raise Rejected("; ".join(reasons))
        draft = self._checked_draft(context)
        if not self._is_stopping:
            return context
        draft = draft or self._draft(context)
        milestones = Milestones(RUNGS, lambda share, accuracy: self._check_rung(draft, share, accuracy))
        return replace(context, trainer=replace(self.session.trainer, milestones=milestones))

    def reconsider(self, context: Context, left: CandidateSpec, undone: Mapping[str, str]) -> None:
        """Raise `Rejected` where what is left of a candidate is not worth another training. The sampler is told.

        After a few in a row that came to nothing one is trained all the same: what is spent on them counts as no trial.
        """
        in_row = takewhile(lambda t: t.state is not TrialState.COMPLETE, reversed(self.others))
        if sum(is_turned_down(t) for t in in_row) >= MOST_TURNED_DOWN:
            return
        self.trial.set_user_attr(UNDONE, sorted(undone))
        try:
            replace(self, spec=left)._checked_draft(context)
        except Rejected as error:
            said = ", ".join(f"{name} undone ({why})" for name, why in undone.items())
            raise Rejected(f"{said}; {error}") from None

    def _checked_draft(self, context: Context) -> Draft | None:
        """The draft, where its candidate could be turned down for it. Raises `Rejected` where it is."""
        config = self.session.config
        selective = self._is_trained and self._is_selective
        if config.max_latency_ms is None and not selective:
            return None
        draft = self._draft(context)
        if config.max_latency_ms is not None:
            self._check_limit(draft, config.max_latency_ms)
        if selective and config.goals is not None:
            self._check_goals(draft)
        elif selective:
            self._check_front(draft, self._scores(draft))
        return draft

    def _draft(self, context: Context) -> Draft:
        session = self.session
        return make_draft(session.registry, self.spec, context, session.config.train, session.gate)

    @property
    def _is_stopping(self) -> bool:
        """Whether its training may be ended on the way."""
        config = self.session.config
        return self._is_trained and config.goals is None and config.early_stopping

    @property
    def _is_trained(self) -> bool:
        """Whether its training costs so much more than the draft that it is worth a look ahead."""
        if self.session.shared is not None:
            return False
        techniques = [self.session.registry.techniques[step.technique] for step in self.spec.steps]
        in_training = any(t.overrides("structure") or t.overrides("objective") for t in techniques)
        return in_training or not self.session.space.trained

    @property
    def _is_comparable(self) -> bool:
        """Whether enough is finished to say what is plausible."""
        return sum(is_evaluated(t) for t in self.others) >= LEAST_FINISHED

    @property
    def _is_selective(self) -> bool:
        """Whether a draft may show that a training would be in vain. Scores are taken of all, to see how they rank."""
        config = self.session.config
        if config.goals is not None:
            return config.goals.end
        return config.latency_first and (self._is_comparable or config.zero_cost)

    @property
    def _margin(self) -> float:
        """How many times as slow and large as the candidate its draft may be."""
        loose = any(self.session.registry.techniques[s.technique].shape_follows_weights for s in self.spec.steps)
        return DRAFT_MARGIN if loose else 1.0

    def _check_limit(self, draft: Draft, limit_ms: float) -> None:
        latency = draft.latency
        if latency.low_ms > limit_ms * self._margin:
            self.trial.set_constraint("latency_ms", latency.ms - limit_ms)
            self._tell(draft)
            raise Rejected(f"{latency.ms:.3g} ms {latency.source} before training, over --max-latency-ms {limit_ms:g}")

    def _check_goals(self, draft: Draft) -> None:
        why = hopeless(self.session, self.trial, self.others, latency_ms=draft.latency.ms, size_bytes=draft.size_bytes)
        if why is not None:
            raise Rejected(why)

    def _check_front(self, draft: Draft, scores: Mapping[str, float]) -> None:
        """Raise `Rejected` where a member of the front would be better even if all goes as well as is plausible."""
        if not self._is_comparable:
            return
        accuracy = self._plausible_accuracy(scores)
        low_ms, size_bytes = draft.latency.low_ms / self._margin, draft.size_bytes / self._margin
        hoped = self.stored.losses(self._values(accuracy, low_ms, size_bytes))
        for member in self.stored.front(self.others):
            if all(m <= h for m, h in zip(self.stored.losses(member.values), hoped, strict=True)):
                self._tell(draft)
                raise Rejected(
                    f"{draft.latency.ms:.3g} ms {draft.latency.source} before training, and at most {accuracy:.1%} is "
                    f"plausible: trial {member.number} is better"
                )

    def _plausible_accuracy(self, scores: Mapping[str, float]) -> float:
        frozen = self.trial.storage.get_trial(self.trial._trial_id)
        history = History.of(self.stored.study, frozen)
        means, deviations = objective(history, 0)(history.parameters.encode([effective_params(frozen)]))
        bound = plausible_accuracy(self.others, scores, PLAUSIBLE) if scores else 1.0
        return float(min(bound, -means[0] + PLAUSIBLE * deviations[0]))

    def _scores(self, draft: Draft) -> dict[str, float]:
        """Those of the untrained candidate, where they are asked for; the study keeps them."""
        session = self.session
        if not session.config.zero_cost:
            return {}
        model = build_model(session.registry, self.spec.arch, session.data, session.config.seed)
        found = {**zero_cost.scores(model, session.data.train), "macs": draft.macs or 0, "parameters": draft.parameters}
        self.trial.set_user_attr(SCORES, found)
        return found

    def _check_rung(self, draft: Draft, share: float, accuracy: float) -> None:
        """Note what is reached after a share of the training. Raises `Rejected` where others stand better."""
        name, values = f"{RUNG}{share:.0%}", self._values(accuracy, draft.latency.ms, draft.size_bytes)
        self.trial.set_user_attr(name, values)
        reached = [t for t in self.stored.trials() if name in t.user_attrs and t.number != self.trial.number]
        losses = np.array([self.stored.losses(v) for v in (*(t.user_attrs[name] for t in reached), values)])
        if stays(losses):
            return
        gains = [t.values[0] - t.user_attrs[name][0] for t in reached if is_evaluated(t)]
        self._tell(draft, accuracy + statistics.median(gains) if gains else None)
        raise Rejected(
            f"stopped after {share:.0%} of its training: {accuracy:.1%} at {draft.latency.ms:.3g} ms is place "
            f"{place(losses) + 1} of {len(losses)} there"
        )

    def _tell(self, draft: Draft, accuracy: float | None = None) -> None:
        """Let samplers know what is known or expected of the candidate."""
        self.trial.set_user_attr(PARTIAL, self._values(accuracy, draft.latency.ms, draft.size_bytes))

    def _values(self, accuracy: float | None, latency_ms: float, size_bytes: float) -> list[Any]:
        """In the order of the study's objectives."""
        return [accuracy, latency_ms, size_bytes][: len(self.session.config.objectives)]
