"""Optuna's storage, quicker: many trials are read at once, and what is known of one is written at once.

Optuna makes an object of each stored value, which takes 20 s and a gigabyte for 10,000 trials, and writes each in a
transaction of its own.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from typing import Any

import optuna
import sqlalchemy as sa
from optuna.distributions import (
    BaseDistribution,
    check_distribution_compatibility,
    distribution_to_json,
    json_to_distribution,
)
from optuna.trial import FrozenTrial, TrialState

from nas_edge.store.rows import DatabaseRows

BATCH = 10_000  # rows that are fetched at once
# Optuna's tables, as far as they are read.
TRIALS = sa.table(
    "trials",
    *map(sa.column, ("trial_id", "number", "study_id", "state")),
    sa.column("datetime_start", sa.DateTime),
    sa.column("datetime_complete", sa.DateTime),
)
VALUES = sa.table("trial_values", *map(sa.column, ("trial_id", "objective", "value", "value_type")))
PARAMS = sa.table(
    "trial_params", *map(sa.column, ("param_id", "trial_id", "param_name", "param_value", "distribution_json"))
)
USER_ATTRIBUTES, SYSTEM_ATTRIBUTES = (
    sa.table(f"trial_{kind}_attributes", *map(sa.column, ("trial_id", "key", "value_json")))
    for kind in ("user", "system")
)
STEPS = sa.table(
    "trial_intermediate_values",
    *map(sa.column, ("trial_id", "step", "intermediate_value", "intermediate_value_type")),
)
HEARTBEATS = sa.table("trial_heartbeats", sa.column("trial_id"), sa.column("heartbeat", sa.DateTime))
BEYOND = {"INF_POS": math.inf, "INF_NEG": -math.inf, "NAN": math.nan}  # stored by name, all else as numbers


@dataclass
class Pending:
    """What is to be written of one trial."""

    params: dict[str, tuple[float, str]] = field(default_factory=dict)
    attributes: dict[str, str] = field(default_factory=dict)

    def write(self, connection: sa.Connection, trial_id: int) -> None:
        if self.params:
            rows = [
                {"trial_id": trial_id, "param_name": name, "param_value": value, "distribution_json": text}
                for name, (value, text) in self.params.items()
            ]
            connection.execute(sa.insert(PARAMS), rows)
        if self.attributes:
            table = USER_ATTRIBUTES
            earlier = (table.c.trial_id == trial_id) & table.c.key.in_(list(self.attributes))
            connection.execute(sa.delete(table).where(earlier))
            rows = [{"trial_id": trial_id, "key": key, "value_json": text} for key, text in self.attributes.items()]
            connection.execute(sa.insert(table), rows)


class QuickStorage(optuna.storages.RDBStorage):
    """Stores what Optuna's own does, and reads the same trials."""

    _pending: Pending | None = None

    @contextmanager
    def together(self, trial_id: int) -> Iterator[None]:
        """Write the parameters and the user attributes that a trial is given meanwhile at its end, all or none."""
        self._pending = pending = Pending()
        try:
            yield
        finally:
            self._pending = None
            if pending.params or pending.attributes:
                with self.engine.begin() as connection:
                    state = connection.execute(sa.select(TRIALS.c.state).where(TRIALS.c.trial_id == trial_id))
                    self.check_trial_is_updatable(trial_id, TrialState[state.scalar_one()])
                    pending.write(connection, trial_id)

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        if self._pending is None:
            super().set_trial_user_attr(trial_id, key, value)
        else:
            self._pending.attributes[key] = json.dumps(value)

    def _set_trial_param(
        self,
        trial_id: int,
        param_name: str,
        param_value_internal: float,
        distribution: BaseDistribution,
        previous_distribution: BaseDistribution | None,
    ) -> None:
        if self._pending is None:
            super()._set_trial_param(trial_id, param_name, param_value_internal, distribution, previous_distribution)
            return
        previous = previous_distribution or self._earlier(trial_id, param_name)
        if previous is not None:
            check_distribution_compatibility(previous, distribution)
        self._pending.params[param_name] = (param_value_internal, distribution_to_json(distribution))

    def _earlier(self, trial_id: int, param_name: str) -> BaseDistribution | None:
        """The distribution of a parameter in another trial of the study."""
        study = sa.select(TRIALS.c.study_id).where(TRIALS.c.trial_id == trial_id).scalar_subquery()
        query = sa.select(PARAMS.c.distribution_json).join_from(PARAMS, TRIALS, PARAMS.c.trial_id == TRIALS.c.trial_id)
        query = query.where(TRIALS.c.study_id == study, PARAMS.c.param_name == param_name).limit(1)
        with self.engine.connect() as connection:
            text = connection.execute(query).scalar_one_or_none()
        return None if text is None else _distribution(text)

    @property
    def is_shared(self) -> bool:
        """Whether other machines may use it."""
        return str(self.engine.dialect.name) != "sqlite"

    @cached_property
    def rows(self) -> DatabaseRows:
        """Our own tables' rows. Raises `StorageError` where those are of another version."""
        return DatabaseRows(self.engine)

    def silences(self, trial_ids: Sequence[int]) -> dict[int, float]:
        """The seconds since the last heartbeat of each of these trials that had one, by the database's clock."""
        with self.engine.connect() as connection:
            now = connection.execute(sa.select(sa.func.now())).scalar_one().replace(tzinfo=None)
            found = connection.execute(sa.select(HEARTBEATS).where(HEARTBEATS.c.trial_id.in_(trial_ids)))
            return {row.trial_id: (now - row.heartbeat).total_seconds() for row in found}

    def brief_trials(self, study_id: int) -> list[FrozenTrial]:
        """All trials of a study without their parameters, in a third of the time."""
        with self.engine.connect() as connection:
            return _read(connection, TRIALS.c.study_id == study_id, None, params=False)

    def whole_trials(self, study_id: int, trial_ids: Sequence[int]) -> list[FrozenTrial]:
        """Some hundred of a study's trials, with their parameters."""
        with self.engine.connect() as connection:
            return _read(connection, TRIALS.c.trial_id.in_(trial_ids), None, params=True)

    def _get_trials(
        self,
        study_id: int,
        states: Container[TrialState] | None,
        included_trial_ids: set[int],
        trial_id_greater_than: int,
    ) -> list[FrozenTrial]:
        wanted = TRIALS.c.study_id == study_id
        if trial_id_greater_than > -1:
            # What is included is asked for by number, so that no database's limit of them is reached.
            newer = TRIALS.c.trial_id > trial_id_greater_than
            wanted &= sa.or_(newer, TRIALS.c.trial_id.in_(sorted(included_trial_ids))) if included_trial_ids else newer
        with self.engine.connect() as connection:
            return _read(connection, wanted, states, params=True)


def _read(
    connection: sa.Connection, wanted: sa.ColumnElement[bool], states: Container[TrialState] | None, *, params: bool
) -> list[FrozenTrial]:
    """The trials that fit a condition, the oldest first."""
    found = {
        row.trial_id: row
        for row in connection.execute(sa.select(TRIALS).where(wanted).order_by(TRIALS.c.trial_id)).all()
        if states is None or TrialState[row.state] in states
    }
    if not found:
        return []
    many = len(found) > BATCH // 100

    def rows(table: sa.TableClause, *columns: str, order: str | None = None) -> Iterator[Any]:
        query = sa.select(*(table.c[name] for name in ("trial_id", *columns)))
        query = query.join_from(table, TRIALS, table.c.trial_id == TRIALS.c.trial_id).where(wanted)
        if order is not None:
            query = query.order_by(table.c[order])
        options = {"yield_per": BATCH} if many else {}
        for part in connection.execute(query, execution_options=options).partitions(BATCH):  # row by row takes longer
            yield from (row for row in part if row[0] in found)  # a trial may have been added meanwhile

    values: dict[int, dict[int, float]] = defaultdict(dict)
    for trial_id, objective, value, kind in rows(VALUES, "objective", "value", "value_type"):
        values[trial_id][objective] = BEYOND.get(kind, value)
    steps: dict[int, dict[int, float]] = defaultdict(dict)
    for trial_id, step, value, kind in rows(STEPS, "step", "intermediate_value", "intermediate_value_type"):
        steps[trial_id][step] = BEYOND.get(kind, value)
    chosen: dict[int, dict[str, Any]] = defaultdict(dict)
    distributions: dict[int, dict[str, BaseDistribution]] = defaultdict(dict)
    names: dict[str, str] = {}  # each kept once
    columns = ("param_name", "param_value", "distribution_json")
    for trial_id, name, value, text in rows(PARAMS, *columns, order="param_id") if params else ():
        name, distribution = names.setdefault(name, name), _distribution(text)
        chosen[trial_id][name] = distribution.to_external_repr(value)
        distributions[trial_id][name] = distribution
    attributes: list[dict[int, dict[str, Any]]] = []
    for table in (USER_ATTRIBUTES, SYSTEM_ATTRIBUTES):
        held: dict[int, dict[str, Any]] = defaultdict(dict)
        stored = list(rows(table, "key", "value_json"))
        read = json.loads(f"[{','.join(text for *_, text in stored)}]")  # at once: ten times as fast
        for (trial_id, key, _), value in zip(stored, read, strict=True):
            held[trial_id][names.setdefault(key, key)] = value
        attributes.append(held)
    return [
        FrozenTrial(
            number=row.number,
            state=TrialState[row.state],
            value=None,
            values=[value for _, value in sorted(values[i].items())] if i in values else None,
            datetime_start=_local(row.datetime_start),
            datetime_complete=_local(row.datetime_complete),
            params=chosen[i],
            distributions=distributions[i],
            user_attrs=attributes[0][i],
            system_attrs=attributes[1][i],
            intermediate_values=steps[i],
            trial_id=i,
        )
        for i, row in found.items()
    ]


@lru_cache(maxsize=4096)
def _distribution(text: str) -> BaseDistribution:
    """Shared by all trials: nothing changes a distribution."""
    return json_to_distribution(text)


def _local(at: datetime | None) -> datetime | None:
    """Optuna stores the time of the world, and shows that of the place."""
    return None if at is None else at.replace(tzinfo=UTC).astimezone().replace(tzinfo=None)
