"""Where a compression begins: the given model as it is, and what its techniques' own defaults make of it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import fields
from typing import Any

from nas_edge.contracts import SearchSpace, Technique
from nas_edge.engine.choices import Choices
from nas_edge.engine.sample import suggest_spec
from nas_edge.engine.session import Session
from nas_edge.engine.standing import GIVEN
from nas_edge.errors import InvalidCandidate
from nas_edge.spec import ENABLED
from nas_edge.steps import JUDGED_STAGES
from nas_edge.store.study import START, StoredStudy


class Defaults:
    """A trial of chosen techniques at the defaults of their configs; `drawn` is what it was asked for.

    Where a default is not among what a technique samples, the middle of that is taken.
    """

    def __init__(self, techniques: Sequence[Technique], on: Collection[str]) -> None:
        self.values: dict[str, Any] = {f"{t.name}.{ENABLED}": t.name in on for t in techniques}
        for technique in techniques:
            config = technique.config_type()
            self.values |= {f"{technique.name}.{f.name}": getattr(config, f.name) for f in fields(config)}
        self.drawn: dict[str, Any] = {}

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        value = self.values.get(name)
        if type(value) is not int or not low <= value <= high or (value - low) % step:
            value = low + step * ((high - low) // step // 2)
        self.drawn[name] = value
        return value

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        value = self.values.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            value = (low * high) ** 0.5 if log else (low + high) / 2
        if step:
            value = min(high, low + step * round((value - low) / step))
        self.drawn[name] = float(value)
        return float(value)

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        value = self.values.get(name)
        fits = any(value == choice and type(value) is type(choice) for choice in choices)
        self.drawn[name] = value if fits else choices[len(choices) // 2]
        return self.drawn[name]


def starting_sets(techniques: Sequence[Technique]) -> Iterator[tuple[str, ...]]:
    """Which techniques are on in the first trials.

    None; each alone that is made for more than training, the quick ones first; each that acts on the network with the
    first of those that decide the precision, then with each of them and all that guide the training.
    """
    guides = [t.name for t in techniques if not any(t.overrides(stage) for stage in JUDGED_STAGES)]
    acting = sorted((t for t in techniques if t.name not in guides), key=lambda t: t.overrides("structure"))
    precise = [t.name for t in acting if t.exclusive or not t.overrides("structure")]
    network = [t.name for t in acting if t.overrides("structure") and not t.exclusive]
    yield ()
    yield from ((t.name,) for t in acting)
    if precise:
        yield from ((name, precise[0]) for name in network)
    if guides:
        yield from ((name, *guides, one) for one in precise for name in network)
        if not precise:
            yield from ((name, *guides) for name in network)


def enqueue_starts(session: Session, stored: StoredStudy) -> None:
    """Queue the first trials of a new study; what a killed process left of them, where it is no more than that."""
    with stored.alone():
        queued = [t.user_attrs.get(START) for t in stored.trials()]
        if None in queued:
            return
        keys = set()
        for on in starting_sets(session.techniques):
            found = _start(session.space, session.techniques, session.choices, on)
            if found is None or found[0] in keys:
                continue
            key, params = found
            keys.add(key)
            if (name := " + ".join(on) or GIVEN) not in queued:
                stored.study.enqueue_trial(params, user_attrs={START: name})


def _start(
    space: SearchSpace, techniques: Sequence[Technique], choices: Choices, on: Collection[str]
) -> tuple[str, dict[str, Any]] | None:
    """The key and the parameters of a start; None where what is fixed does not go with it.

    The model as it was given stays so whatever is fixed; its parameters only tell the sampler that all else was off.
    """
    trial = Defaults(techniques, on)
    try:
        key = suggest_spec(trial, space, techniques, choices).key
    except InvalidCandidate:
        if on:
            return None
    return (key, trial.drawn) if on else (suggest_spec(trial, space, []).key, trial.drawn)
