"""What a user can get wrong with studies: exit status 2, one line that says what to do, and nothing touched."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from optuna.trial import TrialState

from nas_edge.cli import main
from nas_edge.plugins import Registry
from nas_edge.store.study import StoredStudy

from ..data.image_folders import make_classes
from ..studies import keep_profile, search, sha256, study_file, tiny_config, tiny_values


@pytest.fixture
def names(tmp_path: Path) -> dict[str, str]:
    """Paths that the commands below are given."""
    (tmp_path / "empty").mkdir()
    make_classes(tmp_path / "one_class", ("cat",))
    corrupt = make_classes(tmp_path / "corrupt", count=10)
    for picture in corrupt.rglob("*.png"):
        picture.write_bytes(picture.read_bytes()[:40])
    for name, text in (
        ("unknown_key", "trails = 3"),
        ("wrong_type", "trials = 'many'"),
        ("broken", "trials = = 3"),
        ("text", "no model, no database\n" * 50),
    ):
        (tmp_path / name).write_text(text)
    return {"tmp": str(tmp_path), "out": str(tmp_path / "out")}


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that an error takes, after what the command was doing."""
    captured = capsys.readouterr()
    *before, line = captured.err.splitlines()
    assert captured.out == "" and set(before) <= {"Loading the data", "Searching"}
    assert line.startswith("error: ") and len(line) < 600
    return line


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--space", "mobilnet"], "unknown search space 'mobilnet'; did you mean 'mobilenet'?"),
        (["--techniques", "prune,quantise"], "unknown technique 'quantise'; did you mean 'quantize'?"),
        (["--sampler", "nsga"], "unknown sampler 'nsga'; did you mean 'nsga2'?"),
        (["--data", "digit"], "unknown data set 'digit'; did you mean 'digits'?"),
        (["--data", "{tmp}/one_class"], "write folder:{tmp}/one_class"),
        (["--data", "cifar10"], "data set 'cifar10' needs a location: cifar10:PATH"),
        (["--target", "lokal"], "unknown target 'lokal'; did you mean 'local'?"),
        (["--target", "local?threads=0"], "threads is '0'; give a whole number"),
        (["--target", "local", "--threads", "2"], "threads and target are both given"),
        (["--data", "folder:{tmp}/missing"], "there is no '{tmp}/missing'"),
        (["--data", "folder:{tmp}/empty"], "{tmp}/empty"),
        (["--data", "folder:{tmp}/one_class"], "2 classes"),
        (["--data", "folder:{tmp}/corrupt"], "{tmp}/corrupt"),
        (["{tmp}/missing.toml"], "study file {tmp}/missing.toml cannot be read"),
        (["{tmp}/unknown_key"], "unknown key 'trails'; did you mean 'trials'?"),
        (["{tmp}/wrong_type"], "trials is 'many': input should be a valid integer"),
        (["{tmp}/broken"], "{tmp}/broken is not TOML"),
        (["--storage", "study.db"], "--storage is not a database URL"),
        (
            ["--storage", "postgresql://user:secret@127.0.0.1:1/x"],
            "postgresql://user:***@127.0.0.1:1/x cannot be opened",
        ),
        (["--storage", "sqlite:///{tmp}/text"], "file is not a database"),
        (["--max-latency-ms", "-1"], "--max-latency-ms is -1.0: input should be greater than 0"),
        (["--max-latency-ms", "nan"], "--max-latency-ms is nan"),
        (["--trials", "0"], "--trials is 0: input should be greater than or equal to 1"),
        (["--trials", "many"], "invalid value"),
        (["--timeout", "0"], "--timeout is 0.0: input should be greater than 0"),
        (["--objectives", "accuracy"], "give accuracy, latency_ms"),
        (["--train-images", "3"], "--train-images must be at least the number of classes (10), not 3"),
        (["--study", "a/b"], "'a/b' is not a study name"),
        (["--out", "/proc/nas_edge"], "the folder /proc/nas_edge"),
        (["--out", "{tmp}/text"], "the folder {tmp}/text"),
    ],
)
def test_a_mistaken_search(
    arguments: Sequence[str], reason: str, names: dict[str, str], tiny: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    text = sha256(Path(names["tmp"]) / "text")
    given = [a.format(**names) for a in arguments]
    out = [] if "--out" in given else ["--out", names["out"]]
    assert main(["search", *given, *out]) == 2
    line = said(capsys)
    assert reason.format(**names) in line and "secret" not in line
    assert not list(Path(names["out"]).rglob("*.db"))
    assert sha256(Path(names["tmp"]) / "text") == text


@pytest.fixture(scope="module")
def made() -> list[StoredStudy]:
    return []


@pytest.fixture
def stored(made: list[StoredStudy], tiny: Registry, tmp_path_factory: pytest.TempPathFactory) -> StoredStudy:
    """A study of two finished trials and rejected ones, made once for this module."""
    if not made:
        config = tiny_config(tmp_path_factory.mktemp("runs") / "tiny", trials=2, max_latency_ms=0.14)
        made.append(search(config, tiny))
        assert made[0].trials(TrialState.PRUNED)
    made[0].storage.engine.dispose()
    return made[0]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["search", "--study", "tiny", "--out", "{study}", "--target", "bench", "--seed", "3"], "was made with "),
        (["export", "{study}", "99", "-o", "{out}"], "has no trial 99"),
        (["export", "{study}", "{rejected}", "-o", "{out}"], "has no model to export (rejected: "),
        (["export", "{study}", "{best}", "-o", "/proc/nas_edge"], "cannot write into /proc/nas_edge"),
        (["export", "{study}", "{best}", "-o", "{tmp}/text"], "cannot write into {tmp}/text: File exists"),
        (["export", "{study}", "{best}", "-o", "{full}"], "No space left on device; choose another -o"),
        (["export", "{tmp}/empty", "0", "-o", "{out}"], "there is no study '{tmp}/empty'"),
        (["show", "nothing"], "there is no study 'nothing': looked for nothing/study.db and runs/nothing/study.db"),
        (["show", "{tmp}/text"], "file is not a database"),
        (["show", "{study}", "99"], "has no trial 99"),
        (["show", "huge", "--storage", "sqlite:///{study}/study.db"], "there is no study 'huge'"),
        (["resume", "nothing"], "there is no study 'nothing'"),
        (["resume", "{study}", "--trials", "0"], "--trials is 0"),
        (["dashboard", "nothing"], "there is no study 'nothing'"),
        (["measure", "{tmp}/text"], "{tmp}/text: not an ONNX model"),
        (["predict", "{tmp}/text"], "target 'local' has no profile yet; `nas-edge calibrate"),
    ],
)
def test_a_mistaken_command_on_a_study(
    arguments: Sequence[str],
    reason: str,
    stored: StoredStudy,
    names: dict[str, str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    full = Path(names["tmp"]) / "full"
    full.mkdir()
    (full / "model.part").symlink_to("/dev/full")
    names |= {"study": str(stored.folder), "full": str(full), "best": str(stored.front()[0].number)}
    names["rejected"] = str(stored.trials(TrialState.PRUNED)[0].number)
    stored.storage.engine.dispose()
    before = sha256(stored.folder / "study.db")
    assert main([a.format(**names) for a in arguments]) == 2
    assert reason.format(**names) in said(capsys)
    assert sha256(stored.folder / "study.db") == before
    assert not Path(names["out"]).exists()


def test_show_as_json(stored: StoredStudy, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(stored.folder), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["study"], shown["out"]) == ("tiny", str(stored.folder))
    assert shown["storage"] == stored.url
    assert len(shown["trials"]) == len(stored.trials())
    front = [(row["number"], row["size_bytes"], row["techniques"]) for row in shown["front"]]
    assert front == [(t.number, t.user_attrs["size_bytes"], "none") for t in stored.front()]
    assert all(Path(row["model"]).is_file() and row["within_budget"] for row in shown["front"])
    best = stored.front()[0]
    assert main(["show", str(stored.folder), str(best.number), "--json"]) == 0
    trial = json.loads(capsys.readouterr().out)
    assert trial["params"] == best.params and trial["state"] == "complete"
    assert trial["evaluation"]["accuracy"] == best.values[0]
    assert trial["spec"]["arch"]["space"] == "tiny"


def test_show_for_people(stored: StoredStudy, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(stored.folder)]) == 0
    shown = capsys.readouterr().out
    assert "Pareto front" in shown and f"nas-edge export {stored.folder} TRIAL" in shown
    rejected = stored.trials(TrialState.PRUNED)[0]
    assert main(["show", str(stored.folder), str(rejected.number)]) == 0
    assert "over --max-latency-ms 0.14" in " ".join(capsys.readouterr().out.split())


def test_search_as_json(tiny: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = tiny_values(tmp_path / "out", trials=2)
    keep_profile(tiny_config(tmp_path / "out"), tiny)
    assert main(["search", study_file(tmp_path / "study.toml", values), "--trials", "1", "--json"]) == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert (found["study"], found["counts"]["finished"]) == ("tiny", 1)
    assert {"number", "accuracy", "latency_ms", "size_bytes", "techniques"} <= set(found["front"][0])
    assert "1 of 1 trials" in captured.err
