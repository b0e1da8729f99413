"""Makes one candidate: threads its network through trainings and techniques, records each step, undoes what fails."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import onnx
from torch import nn

from nas_edge.contracts import Candidate, Context, Objective, Trainer
from nas_edge.export import check_parity
from nas_edge.figures import Look, Observer
from nas_edge.gate import Effect, Gate
from nas_edge.plugins import Registry
from nas_edge.records import TRAINING, StepRecord
from nas_edge.steps import ActiveStep, call

PARITY_IMAGES = 8


class StartAgain(Exception):
    """Techniques that act in training are to be undone: what was made of the network since is of no use."""

    def __init__(self, reasons: Mapping[str, str]) -> None:
        super().__init__(str(reasons))
        self.reasons = dict(reasons)


class LastTraining(NamedTuple):
    """Who trains the network that ships, and on how many images."""

    trainer: Trainer
    samples: int
    stage: str


@dataclass
class Making:
    """One candidate in the making. `look` is what is known of it now, `undone` which techniques were, and why."""

    registry: Registry
    candidate: Candidate
    context: Context
    observer: Observer
    gate: Gate | None
    look: Look = field(default_factory=Look)
    undone: dict[str, str] = field(default_factory=dict)
    _effects: dict[str, Effect] = field(default_factory=dict)
    _falls: dict[str, float] = field(default_factory=dict)
    _accuracy_failures: int = 0
    _seen: tuple[object, Look | None] = (None, None)  # the subject of the last look, and what was seen

    def begin(self, model: nn.Module) -> None:
        """Look at a network that comes trained."""
        self.look = self._look_at(model)

    def train(
        self,
        model: nn.Module,
        last: LastTraining,
        steps: Sequence[ActiveStep] = (),
        objectives: Sequence[Objective] = (),
    ) -> nn.Module:
        """Train, and count what it changes towards the techniques among `steps` that act on the network meanwhile."""
        start, said = time.perf_counter(), len(self.context.notes)
        with timed(self.candidate, "train"):
            model = last.trainer.fit(model, samples=last.samples, objectives=objectives)
        seconds = time.perf_counter() - start
        before, after = self.look, self._look_at(model)
        for step in steps:
            if step.reshapes and step.last_stage != "structure":
                self._effect(step).add(before, after)
        notes = (f"{last.samples:,} images", *self.context.notes[said:])
        self._record(TRAINING, last.stage, seconds, before, after, notes)
        self.look = before.then(after)
        return model

    def compress(self, model: nn.Module, steps: Sequence[ActiveStep], last: LastTraining) -> onnx.ModelProto:
        """From the trained architecture to the final graph. Raises `StartAgain`."""
        trained, self._effects, self._falls = self.look.figures.accuracy, {}, {}
        model, steps = self._stage("structure", model, steps)
        objectives = self._objectives(model, steps)
        if last.samples:
            model = self.train(model, last, steps, objectives)
        self._check_recovered(trained, steps)
        model, steps = self._stage("finalize", model, steps)
        self.candidate.model = model.eval()
        graph: onnx.ModelProto
        graph, _ = self._stage("graph", self._export(model), steps)
        subject, look = self._seen
        if subject is graph and look is not None and self.observer.sees_all:
            self.candidate.accuracy = look.figures.accuracy
        return graph

    def abandon(self, since: int, again: StartAgain) -> None:
        """Mark the steps recorded since then as undone: those of the techniques to leave out, and what to do again."""
        self.undone |= again.reasons
        redone = f"made again without {' and '.join(again.reasons)}"
        for index, step in enumerate(self.candidate.steps[since:], since):
            why = again.reasons.get(step.technique, redone)
            self.candidate.steps[index] = replace(step, undone=step.undone or why)

    def _stage(self, stage: str, subject: Any, steps: Sequence[ActiveStep]) -> tuple[Any, list[ActiveStep]]:
        """Thread a model (or graph) through the techniques that override a stage; which of them stand."""
        standing = list(steps)
        for step in steps:
            if not step.technique.overrides(stage):
                continue
            result, seconds, notes = self._call(step, stage, subject)
            before, after = self.look, self._look_at(result)
            if step.last_stage == stage:
                before, after = self.observer.comparable(before, after)
            self._effect(step).add(before, after)
            reason = self._fault(step, stage, before, after)
            self._record(step.name, stage, seconds, before, after, notes, reason)
            if reason is None:
                subject, self.look = result, before.then(after)
                continue
            if step.reshapes and stage != "structure":
                raise StartAgain({step.name: reason})
            standing.remove(step)
            self.look, self.undone[step.name] = before, reason
        return subject, standing

    def _fault(self, step: ActiveStep, stage: str, before: Look, after: Look) -> str | None:
        """Why a technique that is complete is undone. A structure's accuracy shows after the recovery training."""
        lost = _difference(before.figures.accuracy, after.figures.accuracy)
        if stage == "structure" and lost is not None:
            self._falls[step.name] = lost
        if self.gate is None or step.last_stage != stage:
            return None
        reason = self.gate.useless(self._effect(step))
        if reason is None and stage != "structure":
            reason = self.gate.too_costly(before.figures.accuracy, after.figures.accuracy)
        return reason

    def _check_recovered(self, trained: float | None, steps: Sequence[ActiveStep]) -> None:
        """Start again where the recovered network is worse than the one before all techniques by more than the budget.

        Recovery is of all of them together: the first time the one that cost most at its own step goes, then all.
        """
        reshaping = [step.name for step in steps if step.reshapes]
        if self.gate is None or not reshaping:
            return
        reason = self.gate.too_costly(trained, self.look.figures.accuracy, " after recovery")
        if reason is None:
            return
        self._accuracy_failures += 1
        if self._accuracy_failures == 1:
            reshaping = [max(reversed(reshaping), key=lambda name: self._falls.get(name, 0.0))]
        raise StartAgain(dict.fromkeys(reshaping, reason))

    def _objectives(self, model: nn.Module, steps: Sequence[ActiveStep]) -> list[Objective]:
        """What the techniques add to the last training."""
        objectives = []
        for step in steps:
            if self.context.trained and step.technique.overrides("objective"):
                objective, seconds, notes = self._call(step, "objective", model)
                self._record(step.name, "objective", seconds, Look(), Look(), notes)
                objectives += [] if objective is None else [objective]
        return objectives

    def _export(self, model: nn.Module) -> onnx.ModelProto:
        """The model as ONNX, which the last look at it may have made already."""
        data = self.context.data
        with timed(self.candidate, "export"):
            subject, look = self._seen
            graph = look.graph if look and look.exact and subject is model else None
            if graph is None:
                graph = self.observer.export(model)
            if self.context.trained:
                check_parity(model, graph, data.validation.images[:PARITY_IMAGES].float() / 255)
        return graph

    def _call(self, step: ActiveStep, stage: str, subject: Any) -> tuple[Any, float, tuple[str, ...]]:
        start, said = time.perf_counter(), len(self.context.notes)
        with timed(self.candidate, stage):
            result = call(self.registry, step, stage, subject, self.context)
        return result, time.perf_counter() - start, tuple(self.context.notes[said:])

    def _look_at(self, subject: nn.Module | onnx.ModelProto) -> Look:
        with timed(self.candidate, "observe"):
            look = (
                self.observer.graph(subject) if isinstance(subject, onnx.ModelProto) else self.observer.model(subject)
            )
        self._seen = subject, look
        return look

    def _effect(self, step: ActiveStep) -> Effect:
        return self._effects.setdefault(step.name, Effect())

    def _record(
        self,
        technique: str,
        stage: str,
        seconds: float,
        before: Look,
        after: Look,
        notes: tuple[str, ...] = (),
        undone: str | None = None,
    ) -> None:
        step = StepRecord(technique, stage, round(seconds, 4), before.figures, after.figures, notes, undone)
        self.candidate.steps.append(step)


@contextmanager
def timed(candidate: Candidate, name: str) -> Iterator[None]:
    """Add the seconds spent to the candidate's record."""
    start = time.perf_counter()
    yield
    candidate.seconds[name] = candidate.seconds.get(name, 0.0) + time.perf_counter() - start


def _difference(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else before - after
