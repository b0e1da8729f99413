"""What the shell completes: names of studies, trials, and what is installed. Quick: neither torch nor optuna is needed.

Whatever goes wrong, nothing is offered: a shell that waits for a word must not be told of errors.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from nas_edge.store.places import DATABASE, RUNS, given_places, named_places

if TYPE_CHECKING:
    from nas_edge.plugins import Registry

VARIABLE = "_NAS_EDGE_COMPLETE"  # by which typer's scripts ask for words
LINES = ("COMP_WORDS", "_TYPER_COMPLETE_ARGS")  # the line so far: of bash, and of other shells
MOST_TRIALS = 200
TRIALS = """
    SELECT t.number, a.value, l.value FROM trials AS t
    LEFT JOIN trial_values AS a ON a.trial_id = t.trial_id AND a.objective = 0
    LEFT JOIN trial_values AS l ON l.trial_id = t.trial_id AND l.objective = 1
    WHERE t.state = 'COMPLETE' AND t.study_id = (
        SELECT study_id FROM studies ORDER BY study_name = ? DESC, study_id LIMIT 1
    ) ORDER BY a.value DESC LIMIT ?
"""


def studies(incomplete: str) -> list[str]:
    """The studies under runs/, by name."""
    return _begin(sorted(path.parent.name for path in Path(RUNS).glob(f"*/{DATABASE}")), incomplete)


def trials(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """The numbers of a study's finished trials, the most accurate first, with accuracy and latency beside them."""
    study = str(context.params.get("study") or "")
    found = next((p for p in (*given_places(study), *named_places(study)) if study and p.is_file()), None)
    if found is None:
        return []
    with contextlib.suppress(sqlite3.Error), contextlib.closing(_read_only(found)) as database:
        rows = database.execute(TRIALS, (Path(study).name, MOST_TRIALS)).fetchall()
        return [(str(n), f"{a:.2%}, {ms:.3g} ms") for n, a, ms in rows if str(n).startswith(incomplete)]
    return []


def techniques(incomplete: str) -> list[str]:
    """Several, joined by commas: the last one is completed."""
    before, comma, last = incomplete.rpartition(",")
    taken = before.split(",")
    return [f"{before}{comma}{name}" for name in _begin(_names("techniques"), last) if name not in taken]


def spaces(incomplete: str) -> list[str]:
    return _begin(_names("search_spaces"), incomplete)


def samplers(incomplete: str) -> list[str]:
    return _begin(_names("samplers"), incomplete)


def plugins(incomplete: str) -> list[str]:
    return _begin(_registered(lambda registry: [plugin.name for plugin in registry.plugins]), incomplete)


def targets(incomplete: str) -> list[str]:
    """Registered ones, and the names that were given to devices."""
    return _begin([*_names("targets"), *named_targets("")], incomplete)


def named_targets(incomplete: str) -> list[str]:
    from nas_edge.errors import UserError
    from nas_edge.targets.names import load_names

    with contextlib.suppress(UserError):
        return _begin(load_names(), incomplete)
    return []


def datasets(incomplete: str) -> list[str]:
    """With the colon behind which its place stands, where it needs one."""
    return _begin(
        _registered(
            lambda registry: [f"{d.name}:" if d.needs_location else d.name for d in registry.datasets.values()]
        ),
        incomplete,
    )


def figures(incomplete: str) -> list[str]:
    """What rows are sorted by, rising and falling."""
    from nas_edge.report.selection import FIGURES

    return _begin([*FIGURES, *(f"-{name}" for name in FIGURES)], incomplete)


def words(environment: Mapping[str, str]) -> list[str]:
    """Those of the line that is completed, after the name of the program."""
    line = next((environment[name] for name in LINES if name in environment), "")
    return line.split()[1:]


def _names(kind: str) -> Iterable[str]:
    return _registered(lambda registry: getattr(registry, kind))


def _registered(choose: Callable[[Registry], Iterable[str]]) -> list[str]:
    from nas_edge.plugins import load_plugins

    return list(choose(load_plugins()))


def _begin(words: Iterable[str], incomplete: str) -> list[str]:
    return [word for word in words if word.startswith(incomplete)]


def _read_only(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=0.1)
