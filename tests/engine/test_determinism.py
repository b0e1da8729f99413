"""The same seed gives the same search, whatever interrupts it."""

from __future__ import annotations

from pathlib import Path

import pytest

from nas_edge.plugins import Registry

from ..studies import found, search, tiny_config


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
