"""One worker at a time among those of all machines: a row of the database that is taken by compare-and-set."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import sqlalchemy as sa

from nas_edge.store.tables import turn_table

LEASE_S = 60.0  # a turn that is held for longer is taken from its holder, who must have died
POLL_S = 0.05


@contextlib.contextmanager
def turn(engine: sa.Engine, study: str) -> Iterator[None]:
    """Wait for the turn of a study and hold it. No clock but this process's own is looked at."""
    held = _take(engine, study)
    try:
        yield
    finally:
        _exchange(engine, study, held, held + 1)  # without effect where it was taken away


def _take(engine: sa.Engine, study: str) -> int:
    seen, since = None, time.monotonic()
    while True:
        ticket = _ticket(engine, study)
        if ticket != seen:
            seen, since = ticket, time.monotonic()
        taken = ticket + 1 if ticket % 2 == 0 else ticket + 2
        due = ticket % 2 == 0 or time.monotonic() - since > LEASE_S
        if due and _exchange(engine, study, ticket, taken):
            return taken
        time.sleep(POLL_S)


def _ticket(engine: sa.Engine, study: str) -> int:
    with engine.connect() as connection:
        query = sa.select(turn_table.c.ticket).where(turn_table.c.study == study)
        ticket = connection.execute(query).scalar_one_or_none()
    if ticket is not None:
        return int(ticket)
    with contextlib.suppress(sa.exc.IntegrityError), engine.begin() as connection:  # another may have been quicker
        connection.execute(sa.insert(turn_table).values(study=study, ticket=0))
    return 0


def _exchange(engine: sa.Engine, study: str, old: int, new: int) -> bool:
    """Whether the ticket was the old one, and is the new one now."""
    change = sa.update(turn_table).where(turn_table.c.study == study, turn_table.c.ticket == old).values(ticket=new)
    with engine.begin() as connection:
        return bool(connection.execute(change).rowcount == 1)
