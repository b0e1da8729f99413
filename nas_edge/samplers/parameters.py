"""The parameters of a study as its trials have shown them: their ranges, and which stand under which condition.

A candidate is a row of numbers, one a parameter: the index of a category, the place in 0..1 of a number, or NaN where
the parameter is not asked for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial

Rows = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
CONTINUOUS = 1 << 20  # stands for the values of a float without a step


@dataclass(frozen=True)
class Parameter:
    """One parameter and its distribution."""

    name: str
    distribution: BaseDistribution

    @property
    def is_categorical(self) -> bool:
        return isinstance(self.distribution, CategoricalDistribution)

    @cached_property
    def count(self) -> int:
        """How many values it has."""
        dist = self.distribution
        if isinstance(dist, CategoricalDistribution):
            return len(dist.choices)
        if isinstance(dist, IntDistribution):
            return (dist.high - dist.low) // dist.step + 1
        if isinstance(dist, FloatDistribution) and dist.step is not None:
            return round((dist.high - dist.low) / dist.step) + 1
        return CONTINUOUS

    @property
    def is_grid(self) -> bool:
        """Whether its values are numbers with equal steps."""
        return not self.is_categorical and self.count < CONTINUOUS and not getattr(self.distribution, "log", False)

    def encode(self, value: Any) -> float:
        """The value as a number of a row."""
        dist = self.distribution
        if isinstance(dist, CategoricalDistribution):
            return float(dist.to_internal_repr(value))
        low, high, at = self._bounds(float(value))
        if self.is_grid:  # the same number for the same value, to the last bit
            return round((at - low) / (high - low) * (self.count - 1)) / (self.count - 1)
        return (at - low) / (high - low)

    def decode(self, number: float) -> Any:
        """The value that a number of a row stands for: the nearest there is."""
        dist = self.distribution
        if isinstance(dist, CategoricalDistribution):
            return dist.choices[int(number)]
        low, high, _ = self._bounds(1.0)
        at = low + number * (high - low)
        if getattr(dist, "log", False):
            at = math.exp(at)
        return _on_grid(dist, at)

    def draw(self, rng: np.random.Generator, count: int) -> npt.NDArray[np.float64]:
        """Numbers of random values, distributed as Optuna distributes them."""
        if self.is_categorical:
            return rng.integers(self.count, size=count).astype(float)
        if self.is_grid:
            return rng.integers(self.count, size=count) / (self.count - 1)
        drawn = rng.random(count)
        return drawn if self.count == CONTINUOUS else np.array([self.encode(self.decode(at)) for at in drawn])

    def _bounds(self, value: float) -> tuple[float, float, float]:
        dist = self.distribution
        assert isinstance(dist, IntDistribution | FloatDistribution)
        if dist.log:
            return math.log(dist.low), math.log(dist.high), math.log(value)
        return float(dist.low), float(dist.high), value


def _on_grid(dist: BaseDistribution, at: float) -> int | float:
    if isinstance(dist, IntDistribution):
        value = dist.low + dist.step * round((at - dist.low) / dist.step)
        return int(min(max(value, dist.low), dist.low + (dist.high - dist.low) // dist.step * dist.step))
    assert isinstance(dist, FloatDistribution)
    if dist.step is not None:
        at = dist.low + dist.step * round((at - dist.low) / dist.step)
    return float(min(max(at, dist.low), dist.high))


@dataclass(frozen=True)
class Condition:
    """A parameter is asked for only where another one is, with one of these numbers."""

    parent: int
    numbers: frozenset[float]


class Parameters:
    """All parameters that trials of a study were asked for, and the conditions that they show.

    `rows` are those of the trials.
    """

    def __init__(self, trials: Sequence[FrozenTrial]) -> None:
        found: dict[str, BaseDistribution] = {}
        for trial in trials:
            for name, distribution in trial.distributions.items():
                known = found.get(name)
                if known is distribution:  # of most trials: comparing them takes long
                    continue
                if known is None or (not isinstance(known, CategoricalDistribution) and known != distribution):
                    found[name] = distribution if known is None else _wider(known, distribution)
        self.all = tuple(Parameter(name, dist) for name, dist in found.items() if not dist.single())
        self._index = {parameter.name: i for i, parameter in enumerate(self.all)}
        self._codes: dict[tuple[int, Any], float] = {}
        self.rows = self.encode([t.params for t in trials])
        self.conditions = _conditions(self.all, self.rows)

    def __len__(self) -> int:
        return len(self.all)

    def encode(self, chosen: Sequence[Mapping[str, Any]]) -> Rows:
        """Rows `[len(chosen), len(self)]` of the parameters of trials."""
        rows = np.full((len(chosen), len(self)), np.nan)
        for row, params in zip(rows, chosen, strict=True):
            for name, value in params.items():
                column = self._index.get(name)
                if column is not None:
                    row[column] = self._code(column, value)
        return rows

    def _code(self, column: int, value: Any) -> float:
        key = (column, value)
        if key not in self._codes:
            self._codes[key] = self.all[column].encode(value)
        return self._codes[key]

    def decode(self, row: npt.NDArray[np.float64]) -> dict[str, Any]:
        """The values of a row, without the parameters that it does not have."""
        return {p.name: p.decode(v) for p, v in zip(self.all, row, strict=True) if not math.isnan(v)}

    def complete(self, rows: Rows, rng: np.random.Generator) -> Rows:
        """Rows in which exactly the parameters stand that would be asked for; what was missing is drawn."""
        rows = rows.copy()
        for column in self._parents_first:
            condition, values = self.conditions.get(column), rows[:, column]
            if condition is not None:
                values[~np.isin(rows[:, condition.parent], list(condition.numbers))] = np.nan
                missing = np.isnan(values) & np.isin(rows[:, condition.parent], list(condition.numbers))
            else:
                missing = np.isnan(values)
            values[missing] = self.all[column].draw(rng, int(missing.sum()))
        return rows

    def random(self, rng: np.random.Generator, count: int) -> Rows:
        """Random rows, each parameter independent of the others."""
        return self.complete(np.full((count, len(self)), np.nan), rng)

    def mutate(self, rows: Rows, rng: np.random.Generator, changes: npt.NDArray[np.int64]) -> Rows:
        """Copies in each of which so many of the parameters it has take another value."""
        if not len(self):
            return rows.copy()
        rows = rows.copy()
        order = np.where(np.isnan(rows), 2.0, rng.random(rows.shape)).argsort(axis=1)
        present = (~np.isnan(rows)).sum(axis=1)
        for column, parameter in enumerate(self.all):
            rank = (order == column).argmax(axis=1)
            chosen = np.flatnonzero(rank < np.minimum(changes, present))
            rows[chosen, column] = _another(parameter, rows[chosen, column], rng)
        return self.complete(rows, rng)

    def cross(self, first: Rows, second: Rows, rng: np.random.Generator) -> Rows:
        """Rows with each parameter from one of two parents (uniform crossover)."""
        mixed = np.where(rng.random(first.shape) < 0.5, first, second)
        return self.complete(np.where(np.isnan(mixed), np.where(np.isnan(first), second, first), mixed), rng)

    @cached_property
    def _parents_first(self) -> list[int]:
        depth = dict.fromkeys(range(len(self)), 0)
        for column in depth:
            at: int | None = column
            while at in self.conditions:
                at, depth[column] = self.conditions[at].parent, depth[column] + 1
        return sorted(depth, key=lambda c: (depth[c], c))

    @cached_property
    def features(self) -> Features:
        return Features(self.all)


class Features:
    """Rows as points whose squared distance is a weighted sum over the parameters.

    Two categories are 1 apart, two numbers the square of their difference, and a parameter that is not asked for is
    1/2 from each category and 1/4 at most from each number.
    """

    def __init__(self, parameters: Sequence[Parameter]) -> None:
        self.owner = np.array(
            [i for i, p in enumerate(parameters) for _ in range(p.count if p.is_categorical else 1)], dtype=np.int64
        )
        self._parameters = parameters

    def of(self, rows: Rows) -> Rows:
        """Points `[len(rows), features]`; `owner` names the parameter of each feature."""
        columns: list[npt.NDArray[np.float64]] = []
        for i, parameter in enumerate(self._parameters):
            values = rows[:, i]
            if parameter.is_categorical:
                columns += [np.where(values == k, math.sqrt(0.5), 0.0) for k in range(parameter.count)]
            else:
                columns.append(np.where(np.isnan(values), 0.5, values))
        return np.stack(columns, axis=1) if columns else np.zeros((len(rows), 0))


def keys(rows: Rows) -> list[bytes]:
    """What identifies each row."""
    rounded = np.where(np.isnan(rows), -1.0, np.round(rows, 9)) + 0.0
    return [row.tobytes() for row in rounded]


def _another(parameter: Parameter, values: npt.NDArray[np.float64], rng: np.random.Generator) -> Rows:
    """Numbers of other values than the given ones; of a continuous parameter, of values near it as often as of any."""
    count = parameter.count
    if count == CONTINUOUS:
        near = np.clip(values + rng.normal(0, 0.1, len(values)), 0.0, 1.0)
        return np.where(rng.random(len(values)) < 0.5, near, rng.random(len(values)))
    if parameter.is_categorical:
        return (values + rng.integers(1, count, size=len(values))) % count
    if not parameter.is_grid:
        return parameter.draw(rng, len(values))
    steps = count - 1
    return (np.round(values * steps) + rng.integers(1, count, size=len(values))) % count / steps


def _wider(one: BaseDistribution, other: BaseDistribution) -> BaseDistribution:
    """A range that holds both: plain Optuna studies may ask for different ones under one name."""
    if isinstance(one, IntDistribution) and isinstance(other, IntDistribution):
        return IntDistribution(min(one.low, other.low), max(one.high, other.high), one.log, one.step)
    if isinstance(one, FloatDistribution) and isinstance(other, FloatDistribution):
        return FloatDistribution(min(one.low, other.low), max(one.high, other.high), one.log, one.step)
    return other


def _conditions(parameters: Sequence[Parameter], rows: Rows) -> dict[int, Condition]:
    """For each parameter that some trials were not asked for, the parent whose values tell when it is.

    A parent is asked for more often. Among those that tell, it is the one whose name shares most with the parameter's.
    """
    present = ~np.isnan(rows)
    asked = present.sum(axis=0)
    without = present.astype(np.float32).T @ ~present  # [child, parent]: how often one is asked for without the other
    told: dict[int, tuple[npt.NDArray[np.float64], Counts]] = {}
    conditions = {}
    for child in np.flatnonzero(asked < len(rows)).tolist():
        fitting = []
        for parent in np.flatnonzero((without[child] == 0) & (asked > asked[child])).tolist():
            if parameters[parent].count == CONTINUOUS:
                continue
            if parent not in told:
                told[parent] = _told(rows[:, parent], present)
            values, counts = told[parent]
            with_child, others = counts[:, child], counts[:, parent] - counts[:, child]
            if not (with_child.astype(bool) & others.astype(bool)).any():
                numbers = frozenset(values[with_child > 0].tolist())
                fitting.append((-_shared(parameters[child].name, parameters[parent].name), parent, numbers))
        if fitting:
            _, parent, numbers = min(fitting, key=lambda found: found[:2])
            conditions[child] = Condition(parent, numbers)
    return conditions


def _told(column: npt.NDArray[np.float64], present: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.float64], Counts]:
    """The values of a parameter, and `[values, parameters]` how often each parameter is asked for with each of them."""
    asked = np.flatnonzero(~np.isnan(column))
    ordered = asked[np.argsort(column[asked], kind="stable")]
    values, starts = np.unique(column[ordered], return_index=True)
    return values, np.add.reduceat(present[ordered], starts, axis=0, dtype=np.int64)


def _shared(one: str, other: str) -> int:
    """How many parts two dotted names share from the left."""
    shared = 0
    for a, b in zip(one.split("."), other.split("."), strict=False):
        if a != b:
            break
        shared += 1
    return shared
