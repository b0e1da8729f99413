"""Random search with the budget of a study: what its search is held against."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

from nas_edge.config import StudyConfig
from nas_edge.errors import NasEdgeError
from nas_edge.store.study import BASELINE, StoredStudy

RANDOM = "random"


def baseline_configs(stored: StoredStudy) -> list[StudyConfig]:
    """The config of each seed's random search: that of the study with the sampler exchanged, and as many candidates.

    Everything else is the same, also what it saves by inherited weights or by stopping early, so that the comparison
    is one of what is proposed. It is stored beside the study.
    """
    config = stored.config
    if config.baseline is None:
        return []
    return [
        config.model_copy(
            update={
                "study": BASELINE.format(study=config.name, number=number),
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
    ]


def stored_baselines(stored: StoredStudy) -> list[StoredStudy]:
    """The random searches of a study that were begun."""
    found = []
    for config in baseline_configs(stored):
        with contextlib.suppress(NasEdgeError):
            found.append(StoredStudy.load(config.name, stored.url, stored.storage).at(config.folder))
    return found


def share(stored: StoredStudy, baseline: StoredStudy) -> None:
    """Give a random search the teacher and the supernet of its study, so that they are trained once."""
    from nas_edge.engine.supernets import SUPERNET_FILE, TAU  # with torch, which reports do without
    from nas_edge.engine.teachers import TEACHER_ACCURACY, TEACHER_FILE

    with tempfile.TemporaryDirectory(prefix="nas_edge_") as folder:
        for name in (TEACHER_FILE, SUPERNET_FILE):
            path = Path(folder) / name
            if not baseline.download(name, baseline.study, path) and stored.download(name, stored.study, path):
                baseline.upload(path, baseline.study)
    known = stored.study.user_attrs
    for key in (TEACHER_ACCURACY, TAU):
        if key in known:
            baseline.study.set_user_attr(key, known[key])
