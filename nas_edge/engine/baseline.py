"""Random search with the budget of a study: what its search is held against."""

from __future__ import annotations

import contextlib

from nas_edge.config import StudyConfig
from nas_edge.errors import StorageError, UserError
from nas_edge.store.study import StoredStudy, locate

RANDOM = "random"


def baseline_configs(stored: StoredStudy) -> list[StudyConfig]:
    """The config of each seed's random search: that of the study with the sampler exchanged, and as many candidates.

    Everything else is the same, also what it saves by inherited weights or by stopping early, so that the comparison
    is one of what is proposed. It is stored beside the study.
    """
    config = stored.config
    return [
        config.model_copy(
            update={
                "study": f"{config.name}-{RANDOM}-{number}",
                "sampler": RANDOM,
                "trials": max(1, stored.finished()),
                "sampler_seed": config.seed + number,
                "until": None,
                "baseline": None,
                "storage": config.storage_url,
                "out": str(config.folder / f"{RANDOM}-{number}"),
            }
        )
        for number in range(1, config.baseline_seeds + 1)
        if config.baseline is not None
    ]


def stored_baselines(stored: StoredStudy) -> list[StoredStudy]:
    """The random searches of a study that were begun."""
    found = []
    for config in baseline_configs(stored):
        with contextlib.suppress(UserError, StorageError):
            found.append(locate(config.name, stored.url, config.out))
    return found
