"""The same seed gives the same search, whatever interrupts it."""

from __future__ import annotations

import random
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from nas_edge.errors import StorageError, UserError
from nas_edge.plugins import Registry
from nas_edge.store.locate import locate

from ..studies import NAS_EDGE, environment, found, keep_profile, search, study_file, tiny_config, tiny_values

KILLS = 5


@pytest.mark.parametrize("sampler", ["random", "tpe", "small-nsga2"])
def test_the_same_seed_gives_the_same_candidates_and_files(sampler: str, tiny: Registry, tmp_path: Path) -> None:
    trials = 12 if sampler == "small-nsga2" else 4
    first, second = (
        search(tiny_config(tmp_path / name, sampler=sampler, trials=trials, techniques=["quantize"]), tiny)
        for name in ("a", "b")
    )
    assert len(found(first)) == trials
    assert found(first) == found(second)


def test_another_seed_gives_another_search(tiny: Registry, tmp_path: Path) -> None:
    first, second = (search(tiny_config(tmp_path / str(seed), seed=seed, trials=2), tiny) for seed in (0, 1))
    assert found(first) != found(second)


def test_a_search_in_two_parts_is_the_search_in_one(tiny: Registry, tmp_path: Path) -> None:
    whole = search(tiny_config(tmp_path / "whole", sampler="small-nsga2", trials=10), tiny)
    for trials in (3, 7, 10):
        parts = search(tiny_config(tmp_path / "parts", sampler="small-nsga2", trials=trials), tiny)
    assert found(parts) == found(whole)


def finished(out: Path) -> int:
    """How many candidates the study in a folder has, which may not be made yet."""
    try:
        return locate(str(out), None).finished()
    except (StorageError, UserError):
        return 0


@pytest.mark.long
@pytest.mark.parametrize("sampler", ["surrogate", "tpe", "nsga2", "small-nsga2"])
def test_kills_at_random_moments_change_nothing(sampler: str, tiny: Registry, tiny_site: Path, tmp_path: Path) -> None:
    """Five kills of the command or of its worker alone, each after a random number of trials and a random while."""
    values = {"sampler": sampler, "trials": 24, "techniques": ["prune", "quantize"]}
    whole = found(search(tiny_config(tmp_path / "whole", **values), tiny))
    out, rng = tmp_path / "killed", random.Random(sampler)
    keep_profile(tiny_config(out, **values), tiny)
    command = (*NAS_EDGE, "search", study_file(tmp_path / "study.toml", tiny_values(out, **values)))
    process = None
    for done in sorted(rng.sample(range(1, 22), KILLS)):
        if process is None or process.poll() is not None:
            process = subprocess.Popen(command, env=environment(tiny_site, TINY_SECONDS="0.2"))
        while finished(out) < done:
            assert process.poll() is None
            time.sleep(0.05)
        time.sleep(rng.uniform(0.0, 1.0))
        if alone := rng.random() < 0.5:
            for worker in psutil.Process(process.pid).children():
                worker.kill()
        else:
            process.kill()
            process.wait()
        print(f"killed after {done} trials: {'the worker' if alone else 'the command'}")
    if process is None or process.poll() is not None:
        process = subprocess.Popen(command, env=environment(tiny_site))
    assert process.wait(timeout=300) == 0
    assert found(locate(str(out), None)) == whole
