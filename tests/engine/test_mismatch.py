"""A stored study is gone on with only as the study that it is; otherwise it stays as it was, to the byte."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nas_edge.cli import main
from nas_edge.plugins import Registry

from ..studies import keep_profile, search, sha256, study_file, tiny_config, tiny_values


def newer(kind: str, name: str) -> Callable[[Registry, pytest.MonkeyPatch], None]:
    """Another version of a plugin, as after an upgrade."""

    def upgrade(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(type(registry.find(kind, name)), "version", 9)

    return upgrade


def another_target(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = type(registry.find("target", "bench")("bench"))
    monkeypatch.setattr(bench, "fingerprint", lambda self: {"cpu": "another", "threads": 1})


def nothing(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same plugins."""


@pytest.mark.parametrize(
    ("changes", "prepare", "reason"),
    [
        ({"space": "mobilenet"}, nothing, 'made with space = "tiny", not "mobilenet"'),
        ({}, newer("search space", "tiny"), "other plugins: search space tiny was 1, is 9"),
        ({}, newer("technique", "quantize"), "other plugins: technique quantize was 2, is 9"),
        ({"seed": 5}, nothing, "made with seed = 0, not 5"),
        ({"sampler": "tpe"}, nothing, 'made with sampler = "random", not "tpe"'),
        ({"techniques": ["quantize", "prune"]}, nothing, 'techniques = ["quantize"], not ["quantize", "prune"]'),
        ({"train_images": 200}, nothing, "made with train_images = 128, not 200"),
        ({"max_latency_ms": 1.0}, nothing, "made with max_latency_ms = null, not 1.0"),
        ({"objectives": ["accuracy", "latency_ms", "size_bytes"]}, nothing, "made with objectives = "),
        ({"train": {"learning_rate": 0.5}}, nothing, "with other train: learning_rate was 0.003, is 0.5; give"),
        ({}, another_target, "other target: fingerprint was "),
    ],
)
def test_another_study_is_refused(
    changes: dict[str, Any],
    prepare: Callable[[Registry, pytest.MonkeyPatch], None],
    reason: str,
    stored_once: Path,
    tiny: Registry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = sha256(stored_once / "study.db")
    prepare(tiny, monkeypatch)
    values = tiny_values(stored_once, techniques=["quantize"])
    values = {**values, **changes, "train": {**values["train"], **changes.get("train", {})}}
    assert main(["search", study_file(tmp_path / "study.toml", values)]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("error: study 'tiny' was made with") and reason in said
    assert "--study NAME" in said
    assert sha256(stored_once / "study.db") == before


@pytest.fixture(scope="module")
def made() -> list[Path]:
    return []


@pytest.fixture
def stored_once(made: list[Path], tiny: Registry, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study with one trial, made once for this module."""
    if not made:
        folder = tmp_path_factory.mktemp("study")
        stored = search(tiny_config(folder, trials=1, techniques=["quantize"]), tiny)
        stored.storage.engine.dispose()  # the write-ahead log goes into the file
        made.append(folder)
    return made[0]


def test_other_data_is_refused(tiny: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from ..data.image_folders import make_classes

    images = make_classes(tmp_path / "images", count=12)
    out = tmp_path / "study"
    config = tiny_config(out, data=f"folder:{images}", train_images=4, trials=1)
    keep_profile(config, tiny)
    command = ["search", study_file(tmp_path / "study.toml", config.model_dump(exclude_none=True))]
    assert main(command) == 0
    make_classes(tmp_path / "images", count=14)
    assert main(command) == 2
    assert "was made with other data: " in capsys.readouterr().err


def test_how_long_and_where_it_runs_may_change(stored_once: Path, tiny: Registry) -> None:
    """More trials, workers or time make no other study; `resume` then knows the trials asked for last."""
    from nas_edge.store.locate import locate

    stored = search(tiny_config(stored_once, techniques=["quantize"], trials=2, timeout=60.0), tiny)
    assert stored.finished() == 2
    assert locate(str(stored_once), None).config.trials == 2
