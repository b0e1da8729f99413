"""`nas-edge init`: whatever is answered, the file is the config that was meant."""

from __future__ import annotations

import io
import itertools
import json
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nas_edge.cli import main
from nas_edge.cli.init import MOST_TRIALS
from nas_edge.config import StudyConfig, TrainConfig, make_config, parse_config
from nas_edge.files import toml_value
from nas_edge.plugins import load_plugins
from nas_edge.study_file import COMPRESSION, study_text

from ..data.image_folders import make_classes

ANSWERS: tuple[tuple[dict[str, Any], ...], ...] = (
    ({}, {"data": "digits"}, {"data": 'folder:a "b\\\x7fé'}, {"data": "arrays:x.npz"}),
    ({}, {"target": "local?threads=2"}),
    ({}, {"max_latency_ms": 0.25}, {"max_latency_ms": 1e-05}),
    ({}, {"trials": 3}, {"timeout": 5400.0, "trials": MOST_TRIALS}),
    ({}, {"techniques": []}, {"techniques": ["prune", "quantize"]}),
    ({}, {"study": "a-b.c"}),
    ({}, {"set": {"prune.criterion": ["l1", "l2"], "prune.enabled": True}}, {"train": {"samples": 7}, "on": "ray"}),
)
LINE = re.compile(r"^# ([a-z_\"].*? = .*)$", re.M)


def test_every_combination_is_read_back() -> None:
    for answers in itertools.product(*ANSWERS):
        values = {name: value for answer in answers for name, value in answer.items()}
        config = parse_config(values)
        read = parse_config(tomllib.loads(study_text(config)))
        assert read == config, values


def test_each_option_stands_in_the_file_once_and_works() -> None:
    """Those of the search, at their defaults, or as an example where the default is nothing."""
    text = study_text(StudyConfig())
    assert parse_config(tomllib.loads(text)) == StudyConfig()
    options = LINE.findall(text)
    names = [option.split(" = ")[0] for option in options]
    plain = {*StudyConfig.model_fields} - {*COMPRESSION, "set", "train"}
    assert sorted(names) == sorted([*plain, *TrainConfig.model_fields, '"prune.criterion"'])
    for option in options:
        alone = text.replace(f"# {option}", option)
        assert alone != text
        read = parse_config(tomllib.loads(alone))
        assert (read != StudyConfig()) is (option.endswith("by default") or "prune" in option), option
    whole = LINE.sub(r"\1", text)
    found = tomllib.loads(whole)
    assert set(found) == plain | {"set", "train"} and set(found["train"]) == set(TrainConfig.model_fields)
    parse_config(found)
    for field in (*StudyConfig.model_fields.values(), *TrainConfig.model_fields.values()):
        assert field.description


@pytest.mark.parametrize(
    "value", ["a", 'quo"te', "\x7f\x00\n\\", "é😀", 1, -2.5, 1e-300, 1e22, True, [], [1, "x"], {"a.b": [1]}]
)
def test_values_of_toml_are_read_back(value: object) -> None:
    assert tomllib.loads(f"a = {toml_value(value)}")["a"] == value


def test_what_toml_has_no_word_for() -> None:
    with pytest.raises(TypeError, match="TOML has no NoneType"):
        toml_value([None])


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def answer(monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal("".join(f"{line}\n" for line in lines)))


def test_enter_takes_the_defaults(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, *[""] * 6)
    assert main(["init"]) == 0
    assert make_config(here / "study.toml", {}) == StudyConfig(study="digits")
    assert main(["init", "same.toml", "--yes"]) == 0
    assert (here / "same.toml").read_text() == (here / "study.toml").read_text()


def test_answers(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """What will not do is asked again, with the reason."""
    make_classes(here / "photos", count=12)
    lines = ["folder:phots", "photos", "folder:photos", "lokal", "local?threads=1", "fast", "0.5"]
    lines += ["soon", "90m", "quantise", "prune,quantize", "a/b", "pets"]
    answer(monkeypatch, *lines)
    assert main(["init", "new/mine.toml"]) == 0
    said = " ".join(capsys.readouterr().err.split())
    for reason in (
        "there is no 'phots'",
        "write folder:photos",
        "2 classes, images of 3 x 10 x 10",
        "unknown target 'lokal'; did you mean 'local'?",
        "the latency budget is 'fast'; give milliseconds",
        "the budget is 'soon'; give trials such as 40, or a time",
        "unknown technique 'quantise'; did you mean 'quantize'?",
        "'a/b' is not a study name",
    ):
        assert reason in said
    assert make_config(here / "new" / "mine.toml", {}) == StudyConfig(
        data="folder:photos",
        target="local?threads=1",
        max_latency_ms=0.5,
        timeout=5400.0,
        trials=MOST_TRIALS,
        techniques=["prune", "quantize"],
        study="pets",
    )


def test_all_techniques_are_more_than_the_default_ones(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answer(monkeypatch, *[""] * 4, "default", "")
    assert main(["init", "default.toml"]) == 0
    asked = " ".join(capsys.readouterr().err.split())
    assert "Techniques: default (distill, low_rank, prune, quantize), all, none, or some of" in asked
    config = make_config(here / "default.toml", {})
    assert config == StudyConfig(study="digits") and config.techniques is None
    assert main(["init", "all.toml", "--yes", "--techniques", "all"]) == 0
    named = make_config(here / "all.toml", {}).techniques
    assert named == [*load_plugins().techniques] and {"distill", "qat", "sparsify", "weight_codes"} < {*named}
    description = StudyConfig.model_fields["techniques"].description
    assert description is not None and "by default all but those that must be named" in description


def test_flags_are_not_asked_for(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez("x.npz", images=np.arange(30 * 64, dtype=np.uint8).reshape(30, 8, 8), labels=np.arange(30) % 2)
    flags = ["--data", "arrays:x.npz", "--target", "local", "--max-latency-ms", "none", "--budget", "7"]
    flags += ["--techniques", "none", "--study", "mine", "--json"]
    assert main(["init", *flags]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said == {
        "file": "study.toml",
        "data": "arrays:x.npz",
        "target": "local",
        "trials": 7,
        "techniques": [],
        "study": "mine",
    }
    expected = StudyConfig(data="arrays:x.npz", trials=7, techniques=[], study="mine")
    assert make_config(here / "study.toml", {}) == expected


def test_a_file_that_is_there(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "study.toml").write_text("trials = 1\n")
    assert main(["init", "--yes"]) == 2
    assert "study.toml is there already; give another name, or --force to replace it" in capsys.readouterr().err
    answer(monkeypatch, "n")
    assert main(["init"]) == 2
    assert (here / "study.toml").read_text() == "trials = 1\n"
    answer(monkeypatch, "y", *[""] * 6)
    assert main(["init"]) == 0
    first = (here / "study.toml").read_text()
    assert main(["init", "--yes", "--force", "--budget", "2"]) == 0
    assert "\ntrials = 2\n" in (here / "study.toml").read_text() != first


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        ([], "error: standard input is no terminal to ask on; give --yes for defaults, or --data, --target,"),
        (["--yes", "--data", "cifar10"], "data set 'cifar10' needs a location: cifar10:PATH"),
        (["--yes", "--data", "folder:none"], "there is no 'none'"),
        (["--yes", "--max-latency-ms", "-1"], "--max-latency-ms is -1.0: input should be greater than 0"),
        (["--yes", "--budget", "0"], "--trials is 0: input should be greater than or equal to 1"),
        (["--yes", "--budget", "1.5"], "the budget is '1.5'; give trials such as 40, or a time such as 30m"),
        (["--yes", "--study", ".."], "'..' is not a study name"),
        (["/proc/nas_edge/x.toml", "--yes"], "/proc/nas_edge/x.toml cannot be written"),
    ],
)
def test_mistakes(
    flags: list[str], reason: str, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    assert main(["init", *flags]) == 2
    assert reason in capsys.readouterr().err and not [*here.iterdir()]


def test_an_input_that_ends(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    answer(monkeypatch, "", "")
    assert main(["init"]) == 2
    assert "the input ended before all was answered; give --yes for defaults" in capsys.readouterr().err
    assert not [*here.iterdir()]
