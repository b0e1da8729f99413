"""The teacher of a study: the space's largest, torchvision's, or the user's."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from optuna.trial import TrialState
from torch import nn

from nas_edge import UserError
from nas_edge.engine.progress import Progress
from nas_edge.engine.recipes import read_recipe
from nas_edge.engine.run import run_search
from nas_edge.engine.session import Session
from nas_edge.engine.teachers import TEACHER_FILE, largest_arch, learners
from nas_edge.plugins import Registry
from nas_edge.store.study import StoredStudy
from nas_edge.train.trainer import ImageTrainer
from nas_edge_plugins.distill import Distill, DistillConfig
from nas_edge_plugins.prune import Prune

from ..cli.command import run
from ..studies import Said, opened, search, tiny_config

NETWORK = """
from torch import nn

def given():
    return nn.Sequential(nn.Conv2d(1, 4, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 10))
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, with the user's network in it."""
    (tmp_path / "given_network.py").write_text(NETWORK)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("given_network", None)


def distilled(out: Path, **changes: Any) -> Any:
    return tiny_config(out, **{"trials": 1, "techniques": ["distill"], **changes})


def taught(config: Any, registry: Registry, heard: Progress) -> tuple[nn.Module, StoredStudy]:
    session, stored = opened(config, registry)
    session.ensure_teacher(stored, heard)
    assert session.teacher is not None
    assert not any(p.requires_grad for p in session.teacher.parameters()) and not session.teacher.training
    return session.teacher, stored


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(value, b.state_dict()[name]) for name, value in a.state_dict().items())


def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageTrainer, "fit", lambda *a, **k: pytest.fail("trained"))


def test_the_largest_is_trained_once_and_stored(
    tiny: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, heard = distilled(tmp_path, train={"teacher_budget": 2.0}), Said()
    teacher, stored = taught(config, tiny, heard)
    assert heard.phases == ["Training the teacher"]
    assert heard.said[0].startswith("teacher: ") and " on validation after " in heard.said[0]
    assert stored.download(TEACHER_FILE, stored.study, tmp_path / "copy.pt")
    no_training(monkeypatch)
    again, _ = taught(config, tiny, heard)
    assert same(teacher, again) and len(heard.said) == 1
    arch = largest_arch(Session.open(config, tiny))
    assert arch.params["width"] >= 15  # the largest of 16 random ones


def test_one_of_torchvision_without_weights_is_trained(tiny: Registry, tmp_path: Path) -> None:
    heard = Said()
    teacher, _ = taught(distilled(tmp_path, teacher="torchvision:shufflenet_v2_x0_5"), tiny, heard)
    assert heard.phases == ["Training the teacher"]
    assert type(teacher.get_submodule("1")).__name__ == "ShuffleNetV2"
    assert teacher(torch.zeros(2, 1, 8, 8)).shape == (2, 10)


def test_given_weights_are_kept_with_the_study_and_not_trained(
    tiny: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They may be gone when the study is gone on with."""
    from nas_edge.models import load_model

    no_training(monkeypatch)
    data = Session.open(tiny_config(tmp_path / "other"), tiny).data
    network = load_model("torchvision:shufflenet_v2_x0_5", data, seed=5)
    file = tmp_path / "weights.pt"
    torch.save(network.get_submodule("1").state_dict(), file)
    config, heard = distilled(tmp_path / "run", teacher=f"torchvision:shufflenet_v2_x0_5:{file}"), Said()
    teacher, stored = taught(config, tiny, heard)
    assert same(teacher, network)
    assert stored.study.user_attrs["teacher_accuracy"] < 0.15
    assert heard.said[0].endswith("on validation as it was given")
    assert "hardly more than by guessing; was it trained on such images, in 0..1?" in heard.warnings[0]
    file.unlink()
    again, _ = taught(config, tiny, heard)
    assert same(again, network)


def test_a_function_is_taken_as_it_is(tiny: Registry, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    no_training(monkeypatch)
    config, heard = distilled(folder / "run", teacher="given_network:given"), Said()
    teacher, _ = taught(config, tiny, heard)
    assert isinstance(teacher, nn.Sequential) and len(teacher) == 4
    again, _ = taught(config, tiny, heard)  # the function draws other weights each time, the study holds these
    assert same(teacher, again)


def test_students_learn_from_a_given_teacher(tiny: Registry, folder: Path) -> None:
    """A search with it runs, and the same with another teacher finds another candidate."""
    found = []
    for name in ("largest", "given_network:given"):
        stored = search(distilled(folder / name[:5], teacher=name, trials=4, seed=1), tiny)
        assert stored.finished() == 4
        found.append({t.user_attrs["onnx_sha256"] for t in stored.trials() if t.params["distill.enabled"]})
    assert found[0] and not found[0] & found[1]


@pytest.mark.parametrize("method", ["features", "attention", "relations", "online"])
def test_every_method_is_switched_on_by_name(method: str, tiny: Registry, tmp_path: Path) -> None:
    heard = Said()
    fixed = {"distill.enabled": True, "distill.method": method}
    stored = search(distilled(tmp_path, set=fixed), tiny, heard)
    (trial,) = stored.trials()
    assert trial.state is TrialState.COMPLETE, trial.user_attrs.get("why")
    (step,) = read_recipe(stored, trial, final=False)[0].steps
    assert step.config["method"] == method
    assert ("Training the teacher" in heard.phases) == (method != "online")


def test_the_command_line_refuses_a_teacher_in_one_line(tiny_site: Path, tmp_path: Path) -> None:
    out = ("--out", str(tmp_path / "run"))
    done = run("search", "--data", "digits", "--teacher", "torchvision:resnet19", *out, site=tiny_site)
    assert done.returncode == 2
    assert "distill: teacher='torchvision:resnet19': unknown network of torchvision 'resnet19'" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_a_technique_that_learns_there_is_no_teacher(tiny: Registry, tmp_path: Path) -> None:
    session, stored = opened(tiny_config(tmp_path, techniques=["prune"], teacher="torchvision:no_such"), tiny)
    session.ensure_teacher(stored, Progress())
    assert session.teacher is None
    assert learners([Distill(), Prune()]) == ["distill"]


def test_students_among_themselves_need_no_teacher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Distill, "suggest", lambda self, scope: DistillConfig(method="online"))
    assert learners([Distill()]) == []


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        ("torchvision:resnet19", "^distill: teacher='torchvision:resnet19': unknown .*did you mean 'resnet"),
        ("torchvision:resnet18:gone.pt", r"^distill: teacher='torchvision:resnet18:gone.pt' has no file of weights"),
        (
            "torchvision:shufflenet_v2_x0_5:w.pt",
            "^distill: teacher=.* has weights for 7 classes but the data has 10; train",
        ),
        ("given_network:nobody", "^distill: teacher='given_network:nobody' names no function"),
        ("resnet18", "--teacher is 'resnet18': use largest, torchvision:NAME"),
    ],
)
def test_a_teacher_that_cannot_teach_is_refused_before_the_study_is_made(
    teacher: str, message: str, tiny: Registry, folder: Path
) -> None:
    from nas_edge import torchvision_network

    network = torchvision_network("shufflenet_v2_x0_5", in_channels=1, num_classes=7)
    torch.save(network.state_dict(), folder / "w.pt")
    with pytest.raises(UserError, match=message):
        run_search(distilled(folder / "run", teacher=teacher))
    assert not (folder / "run").exists()
