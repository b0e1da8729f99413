"""Which trials are shown, and in which order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

from nas_edge.conditions import Where
from nas_edge.errors import UserError, unknown_name
from nas_edge.spec import JOINED, NONE

# What can be asked of a trial, and of a member of the front. Not the test split: who chooses by it has none left.
FIGURES = ("number", "accuracy", "latency_ms", "measured_ms", "size_bytes")

Row = TypeVar("Row")


class State(StrEnum):
    """How a trial ended. Rejected are also those whose training was stopped; why is said beside them."""

    FINISHED = "finished"
    REJECTED = "rejected"
    FAILED = "failed"
    RUNNING = "running"
    WAITING = "waiting"

    @property
    def optuna(self) -> str:
        """Optuna's word for it, in small letters."""
        return {"finished": "complete", "rejected": "pruned", "failed": "fail"}.get(self.value, self.value)

    @classmethod
    def of(cls, optuna: str) -> State:
        return next(state for state in cls if state.optuna == optuna)


def acting(row: Mapping[str, Any]) -> set[str]:
    """The techniques in the row of a trial, "none" as it is called there; nothing of one that was not evaluated."""
    return set(row["techniques"].split(JOINED)) if row["techniques"] else set()


@dataclass(frozen=True)
class Selection:
    """Rows that meet `where`, in which every one of `techniques` acts, and which ended so; sorted, the first `limit`.

    Rows have the `FIGURES` and `techniques`, and `state` where they are not of finished trials. A figure that is not
    known comes last.
    """

    where: Where | None = None
    techniques: tuple[str, ...] = ()
    state: State | None = None
    sort: str | None = None
    limit: int | None = None

    @classmethod
    def parse(
        cls,
        *,
        where: str | None,
        techniques: Iterable[str],
        state: State | None,
        sort: str | None,
        limit: int | None,
        known: Iterable[str],
    ) -> Selection:
        """From the flags of `nas-edge show`, of a study with such techniques. Raises `UserError`."""
        try:
            conditions = None if where is None else Where.parse(where, FIGURES)
        except ValueError as error:
            raise UserError(f"--where is {where!r}: {error}") from None
        if sort is not None and sort.removeprefix("-") not in FIGURES:
            raise unknown_name("figure to --sort by", sort.removeprefix("-"), FIGURES)
        wanted, known = tuple(techniques), {*known, NONE}
        for name in wanted:
            if name not in known:
                raise unknown_name("technique in this study", name, known)
        return cls(conditions, wanted, state, sort, limit)

    def of(self, rows: Sequence[Row], figures: Callable[[Row], Mapping[str, Any]]) -> list[Row]:
        """Those rows of them; `figures` gives a row's."""
        kept = [row for row in rows if self._wants(figures(row))]
        if self.sort is not None:
            name, sign = self.sort.removeprefix("-"), -1 if self.sort.startswith("-") else 1

            def key(row: Row) -> tuple[bool, float]:
                value = figures(row)[name]
                return value is None, 0 if value is None else sign * value

            kept.sort(key=key)
        return kept[: self.limit]

    def _wants(self, row: Mapping[str, Any]) -> bool:
        if self.state is not None and row.get("state", State.FINISHED.optuna) != self.state.optuna:
            return False
        if self.techniques and not {*self.techniques} <= acting(row):
            return False
        return self.where is None or self.where.met(row)
