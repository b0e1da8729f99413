"""The techniques of a candidate: in which order they act, what each may decide, and how one is called."""

from __future__ import annotations

import graphlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import onnx
import torch
from torch import nn

from nas_edge.contracts import Context, Objective, Technique
from nas_edge.errors import InvalidCandidate, NasEdgeError, PluginError, StudyMismatch
from nas_edge.plugins import Registry
from nas_edge.spec import CandidateSpec

JUDGED_STAGES = ("structure", "finalize", "graph")


@dataclass(frozen=True)
class ActiveStep:
    """A technique that is on, with its config."""

    technique: Technique
    config: Any

    @property
    def name(self) -> str:
        return self.technique.name

    @property
    def first_stage(self) -> str | None:
        """Where it first changes the network."""
        return next((s for s in JUDGED_STAGES if self.technique.overrides(s)), None)

    @property
    def last_stage(self) -> str | None:
        """Where its effect is complete, and it can be judged; None for one that only adds to the training's loss."""
        return next((s for s in reversed(JUDGED_STAGES) if self.technique.overrides(s)), None)

    @property
    def reshapes(self) -> bool:
        """Whether it acts on the network before or during the recovery training: undoing it means training again."""
        in_training = self.technique.overrides("structure") or self.technique.overrides("objective")
        return in_training and self.last_stage is not None


def order_techniques(techniques: Iterable[Technique]) -> list[Technique]:
    """In the order they act: by their `after`, ties by name, whatever order they were installed in.

    Raises `PluginError` where the declarations contradict each other.
    """
    by_name = {t.name: t for t in techniques}
    sorter = graphlib.TopologicalSorter({n: t.after & by_name.keys() for n, t in by_name.items()})
    ordered: list[Technique] = []
    try:
        sorter.prepare()
    except graphlib.CycleError as error:
        raise PluginError(f"techniques declare a circle of 'after': {' -> '.join(error.args[1])}") from None
    while sorter.is_active():
        ready = sorted(sorter.get_ready())
        ordered += [by_name[name] for name in ready]
        sorter.done(*ready)
    return ordered


def active_steps(registry: Registry, spec: CandidateSpec) -> list[ActiveStep]:
    """The techniques of a spec with their configs.

    Raises `StudyMismatch` where one has another version now, `InvalidCandidate` where two decide the same.
    """
    steps = []
    for step in spec.steps:
        technique: Technique = registry.find("technique", step.technique)
        if technique.version != step.version:
            raise StudyMismatch(
                f"technique {step.technique!r} has version {technique.version}, the candidate was made with "
                f"{step.version}; install the package that was used then"
            )
        steps.append(ActiveStep(technique, technique.config_from_json(step.config)))
    check_exclusive([step.technique for step in steps])
    return steps


def check_exclusive(techniques: Sequence[Technique]) -> None:
    """Raise `InvalidCandidate` where two of these techniques, all on, decide what only one may."""
    deciders: dict[str, str] = {}
    for technique in techniques:
        for what in sorted(technique.exclusive):
            other = deciders.setdefault(what, technique.name)
            if other != technique.name:
                raise InvalidCandidate(
                    f"techniques {other!r} and {technique.name!r} both decide the {what}, and only one may; "
                    f"turn one of them off, as with --set {technique.name}.enabled=false"
                )


def call(registry: Registry, step: ActiveStep, stage: str, subject: Any, context: Context) -> Any:
    """Call a technique through the hook, and see that it kept to its contract."""
    expected = {"graph": onnx.ModelProto, "objective": Objective | None}.get(stage, nn.Module)
    try:
        with _isolated(context.seed):
            result = registry.hooks.hook.apply_technique(
                technique=step.technique, stage=stage, subject=subject, config=step.config, context=context
            )
    except SystemExit as error:
        raise NasEdgeError(f"{step.name}.{stage} called sys.exit({error.code})") from error
    if not isinstance(result, expected):
        wanted = getattr(expected, "__name__", str(expected))
        raise NasEdgeError(f"{step.name}.{stage} returned {type(result).__name__}, not {wanted}")
    return result


@contextmanager
def _isolated(seed: int) -> Iterator[None]:
    """Give a plugin a random state of its own, and take back what it may leave changed."""
    threads, gradients, dtype = torch.get_num_threads(), torch.is_grad_enabled(), torch.get_default_dtype()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            torch.set_grad_enabled(gradients)
            torch.set_default_dtype(dtype)
