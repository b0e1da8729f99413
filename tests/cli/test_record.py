"""The record of a trial: what `show STUDY TRIAL` prints, and that only what acts is counted and listed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import pytest
from optuna.trial import TrialState

from nas_edge import Context, Technique
from nas_edge.cli import main
from nas_edge.engine.progress import Progress
from nas_edge.engine.recipes import read_recipe
from nas_edge.plugins import Registry
from nas_edge.report.export import export_trial
from nas_edge.report.front import front_rows
from nas_edge.report.summary import counts
from nas_edge.store.study import StoredStudy

from ..studies import search, study_file, tiny_config, tiny_values

MS_A_BYTE = 1e-5


@dataclass(frozen=True)
class NoConfig:
    """Nothing to choose."""


class Bulky(Technique):
    """Makes the file larger, for nothing."""

    name = "bulky"
    config_type = NoConfig

    def graph(self, model: onnx.ModelProto, config: NoConfig, context: Context) -> onnx.ModelProto:
        context.note("20 kB more")
        made = onnx.ModelProto()
        made.CopyFrom(model)
        made.doc_string = "".join(chr(33 + i * i % 89) for i in range(20_000))
        return made


class Lean(Bulky):
    """Makes it smaller."""

    name = "lean"

    def graph(self, model: onnx.ModelProto, config: NoConfig, context: Context) -> onnx.ModelProto:
        made = onnx.ModelProto()
        made.CopyFrom(model)
        for node in made.graph.node:
            node.name = ""
        return made


@pytest.fixture
def registry(tiny: Registry) -> Iterator[Registry]:
    tiny.techniques |= {"bulky": Bulky(), "lean": Lean()}
    yield tiny
    del tiny.techniques["bulky"], tiny.techniques["lean"]


ON: dict[str, Any] = {
    "techniques": ["bulky", "lean"],
    "set": {"bulky.enabled": True, "lean.enabled": True, "tiny.width": 4, "tiny.features": [8, 9, 10]},
}


@pytest.fixture
def stored(registry: Registry, tmp_path: Path) -> StoredStudy:
    return search(tiny_config(tmp_path / "study", trials=2, **ON), registry)


def test_only_what_acts_is_listed_and_counted(stored: StoredStudy, tmp_path: Path) -> None:
    assert {t.user_attrs["techniques"] for t in stored.trials(TrialState.COMPLETE)} == {"lean"}
    assert {row.techniques for row in front_rows(stored)} == {"lean"}
    assert counts(stored) == {"finished": 2, "rejected": 0, "failed": 0, "running": 0, "interrupted": 0, "with lean": 2}
    spec, evaluation = read_recipe(stored, stored.front()[0], final=False)
    assert spec.summary == "bulky + lean" and evaluation.techniques == ("lean",)
    export_trial(stored, stored.front()[0].number, tmp_path / "out", Progress())
    card = (tmp_path / "out" / "card.md").read_text()
    assert "| Techniques | lean |" in card
    (line,) = (line for line in card.splitlines() if line.startswith("| 2. bulky, graph (undone)"))
    assert "undone: neither faster (latency +" in line and line.endswith("; 20 kB more |")


def test_show_gives_the_record_as_data(stored: StoredStudy, capsys: pytest.CaptureFixture[str]) -> None:
    number = stored.front()[0].number
    assert main(["show", str(stored.folder), str(number), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)["evaluation"]
    training, bulky, lean = shown["steps"]
    assert (training["technique"], training["stage"], training["undone"]) == ("training", "train", None)
    assert bulky["notes"] == ["20 kB more"] and bulky["undone"].startswith("neither faster")
    assert bulky["after"]["size_bytes"] - bulky["before"]["size_bytes"] == pytest.approx(20_000, abs=5)
    assert bulky["before"] == lean["before"] | {"accuracy": training["after"]["accuracy"]}
    for step in (training["after"], bulky["before"], bulky["after"], lean["after"]):
        assert step["latency_ms"] == pytest.approx(MS_A_BYTE * step["size_bytes"])
        assert step["latency_source"] == "predicted" and step["compressed_bytes"] < step["size_bytes"]
    for name in ("size_bytes", "latency_ms", "accuracy", "macs", "parameters"):
        assert lean["after"][name] == shown[name]


def test_show_prints_the_record_as_a_table(
    stored: StoredStudy, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "220")
    number = stored.front()[0].number
    _, evaluation = read_recipe(stored, stored.trial(number), final=False)
    assert main(["show", str(stored.folder), str(number)]) == 0
    lines = capsys.readouterr().out.splitlines()
    header = next(line for line in lines if "technique" in line and "MACs" in line)
    assert header.split() == [
        "technique", "stage", "parameters", "MACs", "bytes", "compressed", "ms", "accuracy", "seconds"
    ]  # fmt: skip
    _, bulky, lean = evaluation.steps
    row = next(line for line in lines if line.startswith("2x"))
    assert f"{bulky.before.size_bytes:,} -> {bulky.after.size_bytes:,}" in row
    assert f"~{bulky.before.latency_ms:.3f} -> ~{bulky.after.latency_ms:.3f}" in row  # both predicted
    assert f" {bulky.before.macs:,} " in row  # unchanged: one number
    (row,) = (line for line in lines if line.startswith("3 ") and "lean" in line)
    assert f"{lean.before.compressed_bytes:,} -> {lean.after.compressed_bytes:,}" in row
    assert any(line.startswith("1 ") and "training" in line and "- -> " in line for line in lines)
    assert f"2x bulky is undone: {bulky.undone}" in lines
    assert "2  bulky: 20 kB more" in lines


def test_without_the_gate_nothing_is_undone(registry: Registry, tmp_path: Path) -> None:
    free = search(tiny_config(tmp_path / "free", trials=1, gate=False, **ON), registry)
    (trial,) = free.trials(TrialState.COMPLETE)
    assert trial.user_attrs["techniques"] == "bulky + lean"
    _, evaluation = read_recipe(free, trial, final=False)
    assert all(step.undone is None for step in evaluation.steps)
    assert evaluation.steps[1].after.size_bytes is not None  # the record is kept all the same


@pytest.mark.parametrize(
    ("flags", "found"),
    [
        ([], {"gate": True, "max_drop": 5.0, "set": {}}),
        (["--no-gate"], {"gate": False}),
        (["--max-drop", "20", "--set", "prune.ratio=0.3", "--set", "prune.scope=global,layer"],
         {"max_drop": 20.0, "set": {"prune.ratio": 0.3, "prune.scope": ["global", "layer"]}}),
    ],
)  # fmt: skip
def test_the_flags_reach_the_study(
    flags: list[str], found: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nas_edge.cli import study

    seen: list[Any] = []
    monkeypatch.setattr(study, "_run", lambda config, as_json: seen.append(config))
    values = tiny_values(tmp_path / "out", techniques=["prune"])
    assert main(["search", study_file(tmp_path / "study.toml", values), *flags]) == 0
    assert {name: getattr(seen[0], name) for name in found} == found


def test_float16_on_a_cpu_is_refused_before_anything_is_made(
    tiny: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = tiny_values(tmp_path / "out", train={"precision": "float16", "device": "cpu"})
    assert main(["search", study_file(tmp_path / "study.toml", values)]) == 2
    assert "train.precision is 'float16', which needs a CUDA device" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
