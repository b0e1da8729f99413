"""`nas-edge compress` as a user meets it: one JSON object, tables that say which goal failed, mistakes in one line."""

from __future__ import annotations

import json
import pickle
import sys
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch

from nas_edge.cli import main
from nas_edge.plugins import Registry

from ..compressions import MODEL, install_network, quick_config
from ..studies import keep_profile

QUICK = ("--data", "digits", "--target", "bench", "--train-images", "256", "--samples", "128")


@pytest.fixture
def here(tiny: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, with the user's network."""
    install_network(tmp_path)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("small_network", None)


def compress(*arguments: str, model: str = MODEL) -> int:
    return main(["compress", model, *QUICK, "--techniques", "quantize", *arguments])


def result(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    value = json.loads(capsys.readouterr().out)
    assert isinstance(value, dict)
    return value


def test_as_json(tiny: Registry, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Goals that are met, found again by `show`, and gone on with under goals that are not."""
    keep_profile(quick_config(here / "none", techniques=["quantize"]), tiny)
    run = ["--out", "run", "--trials", "6", "--json"]
    assert compress("--max-drop", "30", "--min-size-reduction", "50", *run) == 0
    done = result(capsys)
    assert done["met"] is True and (done["study"], done["out"]) == ("small-digits", "run")
    assert {"baseline", "best", "goals", "front", "storage", "files"} <= done.keys()
    assert (done["baseline"]["number"], done["best"]["number"], done["counts"]["finished"]) == (0, 1, 2)
    assert [goal["name"] for goal in done["goals"]] == ["accuracy drop", "size reduction"]
    size = done["goals"][1]
    assert {"wanted": 50.0, "met": True, "missing": 0.0, "unit": "%"}.items() <= size.items()
    assert size["reached"] == pytest.approx(100 * (1 - done["best"]["size_bytes"] / done["baseline"]["size_bytes"]))
    assert sorted(Path(path).name for path in done["files"]) == ["card.md", "model.onnx", "recipe.json", "run.py"]
    recipe = json.loads((here / "run" / "recipe.json").read_text())
    assert recipe["spec"]["arch"]["params"] == {"model": MODEL}
    assert recipe["evaluation"]["size_bytes"] == (here / "run" / "model.onnx").stat().st_size

    assert main(["show", "run", "--json"]) == 0
    shown = result(capsys)
    assert shown["goals"] == done["goals"] and shown["best"] == done["best"] and len(shown["trials"]) == 2

    assert compress("--max-drop", "30", "--min-size-reduction", "99", *run[:3], "3", "--json") == 0
    more = result(capsys)
    assert more["met"] is False and more["counts"]["finished"] == 3
    missed = more["goals"][1]
    assert not missed["met"] and missed["missing"] == pytest.approx(99 - missed["reached"])


def test_for_people(tiny: Registry, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keep_profile(quick_config(here / "none", techniques=["quantize"]), tiny)
    assert compress("--max-drop", "30", "--min-speedup", "40", "--out", "run", "--trials", "2") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Not met: speedup misses by" in said and "comes closest" in said
    assert "speedup at least 40 times" in said and "as given 0" in said
    assert "model.onnx, recipe.json, card.md, run.py in run" in said
    assert main(["resume", "run", "--trials", "3"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Not met: speedup misses by" in said and "3 finished, at most 3" in said
    assert main(["show", "run"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Goals" in said and "Pareto front" in said and "speedup at least 40 times" in said


@pytest.mark.parametrize(
    ("model", "arguments", "reason"),
    [
        ("resnet18", [], "model='resnet18' is no network; give torchvision:NAME"),
        ("torchvision:resnet19", [], "model='torchvision:resnet19': unknown network of torchvision 'resnet19'"),
        ("nowhere:net", [], "model='nowhere:net' cannot be imported"),
        ("small_network:smal", [], "names no function; unknown function 'smal'; did you mean 'small'?"),
        (f"{MODEL}:gone.pt", [], "has no file of weights 'gone.pt'; give the path of a state dict"),
        (f"{MODEL}:objects.pt", [], "has weights that are no state dict, which torch.load(weights_only=True) reads"),
        (f"{MODEL}:other.pt", [], "does not have these weights"),
        (MODEL, ["--max-drop", "-1"], "--max-drop is -1.0: input should be greater than or equal to 0"),
        (MODEL, ["--min-speedup", "0.5"], "--min-speedup is 0.5: input should be greater than 1"),
        (MODEL, ["--min-size-reduction", "100"], "--min-size-reduction is 100.0: input should be less than 100"),
        (MODEL, ["--max-latency-ms", "0"], "--max-latency-ms is 0.0: input should be greater than 0"),
        (MODEL, ["--max-drop", "little"], "invalid value"),
        (MODEL, ["--techniques", "prun"], "unknown technique 'prun'; did you mean 'prune'?"),
        (MODEL, ["--set", "quantize.scheme=int9"], "set quantize.scheme: 'int9' will not do"),
        (MODEL, ["--set", "given.model=x"], "unknown choice 'given.model'"),
        (MODEL, ["--sampler", "ntpe"], "unknown sampler 'ntpe'"),
        (MODEL, ["--trials", "0"], "--trials is 0"),
    ],
)
def test_mistakes(
    model: str, arguments: Sequence[str], reason: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (here / "objects.pt").open("wb") as file:
        pickle.dump({"weight": Fraction(1, 3)}, file)
    torch.save({"weight": torch.zeros(3)}, here / "other.pt")
    assert compress("--out", "run", *arguments, model=model) == 2
    captured = capsys.readouterr()
    *before, line = captured.err.splitlines()
    assert captured.out == "" and set(before) <= {"Loading the data"}
    assert line.startswith("error: ") and reason in line
    assert not (here / "run").exists()
