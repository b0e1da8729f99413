"""One worker at a time among those of all machines: a row of the database that is taken by compare-and-set."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from nas_edge.store.rows import Rows
from nas_edge.store.tables import turn_table

LEASE_S = 60.0  # a turn that is held for longer is taken from its holder, who must have died
POLL_S = 0.05


@contextlib.contextmanager
def turn(rows: Rows, study: str) -> Iterator[None]:
    """Wait for the turn of a study and hold it. No clock but this process's own is looked at."""
    held = _take(rows, study)
    try:
        yield
    finally:
        _exchange(rows, study, held, held + 1)  # without effect where it was taken away


def _take(rows: Rows, study: str) -> int:
    seen, since = None, time.monotonic()
    while True:
        ticket = _ticket(rows, study)
        if ticket != seen:
            seen, since = ticket, time.monotonic()
        taken = ticket + 1 if ticket % 2 == 0 else ticket + 2
        due = ticket % 2 == 0 or time.monotonic() - since > LEASE_S
        if due and _exchange(rows, study, ticket, taken):
            return taken
        time.sleep(POLL_S)


def _ticket(rows: Rows, study: str) -> int:
    found = rows.select(turn_table.name, ["ticket"], {"study": study})
    if not found:
        rows.insert(turn_table.name, [{"study": study, "ticket": 0}])  # another may have been quicker
    return int(found[0][0]) if found else 0


def _exchange(rows: Rows, study: str, old: int, new: int) -> bool:
    """Whether the ticket was the old one, and is the new one now."""
    return rows.exchange(turn_table.name, {"study": study}, "ticket", old, new)
