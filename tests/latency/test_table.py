"""Profiles from a table of latencies, as a function and as a user calls it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest

from nas_edge import UserError
from nas_edge.cli import main
from nas_edge.latency.graph import kernels_of
from nas_edge.latency.profile import Profile
from nas_edge.latency.table import from_table, read_table

from .networks import Network, random_mobile

NETWORKS = 70
PER_UNIT: Mapping[str, float] = {"calls": 0.003, "mega_macs": 0.02, "kilobytes": 3e-5, "weight_kilobytes": 1e-4}


def device_ms(model: onnx.ModelProto) -> float:
    """A device whose depthwise kernels are dearer, and whose every run costs 0.05 ms."""
    total = 0.05
    for kernel in kernels_of(model).kernels:
        factor = 4.0 if kernel.kind.endswith("depthwise") else 1.0
        total += factor * sum(PER_UNIT.get(name, 0.0) * amount for name, amount in kernel.features.items())
    return total


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("table")
    (folder / "models").mkdir()
    lines = ["path,latency_ms,note"]
    for seed in range(NETWORKS):
        model = random_mobile(seed)
        onnx.save(model, folder / "models" / f"m{seed}.onnx")
        lines.append(f"models/m{seed}.onnx,{device_ms(model)},measured by hand")
    (folder / "table.csv").write_text("\n".join(lines) + "\n")
    return folder / "table.csv"


def test_it_predicts_what_the_table_does_not_hold(table: Path) -> None:
    heard: list[int] = []
    profile = from_table(table, lambda networks, seconds, error: heard.append(networks))
    unseen = [random_mobile(seed) for seed in range(1000, 1030)]
    errors = np.array([profile.predict(model).ms / device_ms(model) - 1 for model in unseen])
    assert np.median(np.abs(errors)) < 0.01 and np.abs(errors).max() < 0.1
    assert profile.error.networks == NETWORKS and profile.error.median < 0.02
    assert heard == list(range(1, NETWORKS + 1))
    assert profile.target == "table" and profile.domain == "table table.csv"
    assert 0 < profile.low_ms < profile.high_ms


def test_the_fingerprint_is_the_tables_content(table: Path, tmp_path: Path) -> None:
    first = from_table(table)
    rows = [line.split(",") for line in table.read_text().splitlines()[1:]]

    def written(name: str, factor: float) -> Path:
        lines = [f" {ms * factor!r} ,{table.parent / path}" for path, ms in ((r[0], float(r[1])) for r in rows)]
        (tmp_path / name).write_text("\ufefflatency_ms, path\n" + "\n".join(lines) + "\n", encoding="utf-8")
        return tmp_path / name

    assert from_table(written("same.csv", 1.0)).fingerprint == first.fingerprint
    other = from_table(written("twice.csv", 2.0))
    assert other.fingerprint != first.fingerprint
    model = random_mobile(1000)
    assert other.predict(model).ms == pytest.approx(2 * first.predict(model).ms, rel=0.02)


def test_networks_with_unknown_operators_are_left_out(table: Path, tmp_path: Path) -> None:
    net = Network(3, 8, batch=1)
    onnx.save(net.model(net.node("Det", ["input"]), rank=2), tmp_path / "strange.onnx")
    lines = table.read_text().splitlines()[1:21]
    absolute = [f"{table.parent / line.split(',')[0]},{line.split(',')[1]}" for line in lines]
    file = tmp_path / "table.csv"
    file.write_text("\n".join(["path,latency_ms", *absolute, "strange.onnx,5.0"]) + "\n")
    assert from_table(file).error.networks == 20
    file.write_text("\n".join(["path,latency_ms", *absolute[:7], "strange.onnx,5.0"]) + "\n")
    with pytest.raises(UserError, match=r"7 networks can be used \(operators without a latency model: Det\).* needs 8"):
        from_table(file)


Write = Callable[[str], Path]


@pytest.fixture
def write(table: Path) -> Write:
    """Puts a table beside the models."""

    def written(text: str) -> Path:
        path = table.parent / "other.csv"
        path.write_text(text)
        return path

    return written


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no column 'path' in its first line (empty)"),
        ("path,ms\nmodels/m0.onnx,1\n", "no column 'latency_ms' in its first line (path, ms)"),
        ("path,latency_ms\nmodels/m0.onnx,fast\n", "line 2: latency_ms is 'fast'; give milliseconds above 0"),
        ("path,latency_ms\nmodels/m0.onnx,1\nmodels/m1.onnx,-1\n", "line 3: latency_ms is '-1'"),
        ("path,latency_ms\nmodels/m0.onnx,nan\n", "line 2: latency_ms is 'nan'"),
        ("path,latency_ms\nmodels/m0.onnx\n", "line 2: latency_ms is None"),
        ("path,latency_ms\nmodels/none.onnx,1\n", "line 2: there is no file"),
        ("path,latency_ms\n,1\n", "line 2: there is no file"),
        ("path,latency_ms\nmodels/m0.onnx,1\n", "1 networks can be used, and a profile needs 8"),
        ("path,latency_ms\n", "0 networks can be used"),
    ],
)
def test_mistakes_in_a_table_cost_one_line(write: Write, text: str, reason: str) -> None:
    with pytest.raises(UserError) as caught:
        from_table(write(text))
    assert reason in str(caught.value) and "other.csv" in str(caught.value) and "\n" not in str(caught.value)


def test_files_that_are_no_table_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"missing.csv: cannot be read .*give a CSV"):
        read_table(tmp_path / "missing.csv")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00path")
    with pytest.raises(UserError, match="is not UTF-8"):
        read_table(tmp_path / "binary.csv")


def test_the_commands_calibrate_and_predict(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    profile, model = tmp_path / "p.json", tmp_path / "m.onnx"
    assert main(["calibrate", "--from", str(table), "-o", str(profile), "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["profiles"] == [str(profile)] and made["error"]["networks"] == NETWORKS
    onnx.save(random_mobile(1001), model)
    assert main(["predict", str(model), "--target", str(profile), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["ms"] == pytest.approx(device_ms(onnx.load(model)), rel=0.05)
    assert shown["ms"] == pytest.approx(Profile.load(profile).predict(onnx.load(model)).ms)
    assert shown["low_ms"] < shown["ms"] < shown["high_ms"] and shown["unsupported"] == []
    assert sum(kernel["ms"] for kernel in shown["kernels"]) == pytest.approx(shown["ms"])


def test_the_command_names_the_line_that_is_wrong(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    file = write("path,latency_ms\nmodels/m0.onnx,fast\n")
    assert main(["calibrate", "--from", str(file)]) == 2
    said = capsys.readouterr()
    assert said.out == "" and "Traceback" not in said.err
    assert "line 2: latency_ms is 'fast'" in " ".join(said.err.split())
