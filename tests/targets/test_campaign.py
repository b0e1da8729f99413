"""Campaigns: on a device whose speed is known exactly, and with real agents."""

from __future__ import annotations

import json
import math
import statistics
from pathlib import Path
from typing import Any

import pytest

from nas_edge import MeasurementError, ModelError, UserError
from nas_edge.targets import campaign as campaign_module
from nas_edge.targets.anchors import Anchor, anchor_file, load_anchor, save_first
from nas_edge.targets.campaign import VISIT_MS, Campaign, reference_model
from nas_edge.targets.client import AgentClient, AgentRefusal
from nas_edge.targets.local import LocalTarget
from nas_edge.targets.process import AgentProcess
from nas_edge.targets.references import REFERENCES_MS, reference_models


class Clock:
    """The speed of a made-up device, which changes with each question."""

    def __init__(self, *, swing: float = 0.0, level: float = 1.0) -> None:
        self.questions = 0
        self.swing, self.level = swing, level

    def slowdown(self) -> float:
        self.questions += 1
        return self.level * (1 + self.swing * math.sin(self.questions / 40))


class Simulated(AgentClient):
    """An agent on that device. A model takes as many microseconds as it has bytes; `refused` is not loaded."""

    def __init__(self, clock: Clock, refused: bytes | None = None) -> None:
        super().__init__(_no_process)
        self.clock, self.refused = clock, refused
        self.models: list[bytes] = []
        self.profiled: list[int] = []

    def nodes(self, model_id: int) -> list[Any]:
        return [["node", "Conv", len(self.models[model_id])]] if model_id in self.profiled else []

    def load(self, model: bytes, profile_ms: float = 0.0) -> int:
        if model == self.refused:
            raise AgentRefusal("no such operator")
        self.models.append(model)
        self.profiled += [len(self.models) - 1] if profile_ms else []
        return len(self.models) - 1

    def visit(self, model_id: int, duration_ms: float) -> tuple[list[float], list[float]]:
        ms = len(self.models[model_id]) * 1e-3 * self.clock.slowdown()
        return [ms * 1.5] * 3, [ms] * 3

    def loaded(self) -> int:
        """Models beside the references."""
        return len(self.models) - len(REFERENCES_MS)


def _no_process() -> AgentProcess:
    raise AssertionError("a simulated agent has no process")


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """Files of 1000, 2000, ... bytes."""
    made = [tmp_path / f"model{index}.onnx" for index in range(1, 6)]
    for index, path in enumerate(made, start=1):
        path.write_bytes(b"x" * 1000 * index)
    return made


def simulate(
    clock: Clock, paths: list[Path], rounds: int = 12, homes: int | None = None, anchor: Anchor | None = None
) -> tuple[Campaign, list[Simulated]]:
    clients = [Simulated(clock) for _ in range(3)]
    campaign = Campaign(clients, use_cpu_time=True, homes=homes, anchor=anchor)
    for path in paths:
        campaign.add(path)
    campaign.run(0, min_rounds=rounds)
    return campaign, clients


def test_a_swinging_speed_cancels(paths: list[Path]) -> None:
    campaign, _ = simulate(Clock(swing=0.3), paths)
    raw = [statistics.median(v.times_ms) / ms for ms, vs in zip(range(1, 6), campaign.visits, strict=True) for v in vs]
    assert max(raw) / min(raw) > 1.7
    latencies = campaign.latencies_ms()
    assert [ms / latencies[0] for ms in latencies] == pytest.approx([1, 2, 3, 4, 5], rel=0.02)
    assert latencies[0] == pytest.approx(1.0, rel=0.1)  # at the typical speed
    assert campaign.speed() == 1.0
    assert all(v.wall_ms[0] == pytest.approx(1.5 * v.times_ms[0]) for vs in campaign.visits for v in vs)


def test_campaigns_at_other_speeds_agree_at_the_anchor(paths: list[Path]) -> None:
    first, _ = simulate(Clock(), paths)
    anchor = Anchor.now(first.references_ms())
    second, _ = simulate(Clock(level=1.25), paths, anchor=anchor)
    assert second.speed() == pytest.approx(0.8)
    assert second.latencies_ms() == pytest.approx(first.latencies_ms())
    assert second.reference_ms() == first.reference_ms() == pytest.approx(len(reference_model()) * 1e-3)


def test_visits_go_round_over_the_processes(paths: list[Path]) -> None:
    campaign, clients = simulate(Clock(), paths, rounds=6)
    for visits in campaign.visits:
        order = [visit.process for visit in visits]
        assert order[:3] == order[3:] and sorted(order[:3]) == [0, 1, 2]
    assert {visits[0].process for visits in campaign.visits} == {0, 1, 2}
    assert [client.loaded() for client in clients] == [5, 5, 5]


def test_models_are_loaded_where_they_are_visited(paths: list[Path]) -> None:
    campaign, clients = simulate(Clock(), paths, rounds=1)
    assert sum(client.loaded() for client in clients) == 5
    campaign, clients = simulate(Clock(), paths, rounds=6, homes=2)
    assert sum(client.loaded() for client in clients) == 10
    assert all(len({visit.process for visit in visits}) == 2 for visits in campaign.visits)


def test_a_model_is_profiled_where_it_is_loaded_first(paths: list[Path]) -> None:
    clients = [Simulated(Clock()) for _ in range(3)]
    campaign = Campaign(clients, use_cpu_time=True)
    assert [campaign.add(paths[0], 40.0), campaign.add(paths[1])] == [0, 1]
    campaign.run(0, min_rounds=6)
    assert [client.loaded() for client in clients] == [2, 2, 2]
    assert [len(client.profiled) for client in clients] == [1, 0, 0]
    assert campaign.nodes(0) == [["node", "Conv", 1000]] and campaign.nodes(1) == []


def test_later_models_catch_up(paths: list[Path]) -> None:
    campaign, _ = simulate(Clock(), paths[:2], rounds=4)
    campaign.add(paths[2])
    heard: list[int] = []
    campaign.run(0, lambda: heard.append(1), min_rounds=5)
    assert [len(visits) for visits in campaign.visits] == [5, 5, 5] and len(heard) == 2 + 5


def test_what_the_device_refuses_is_named_and_left_out(paths: list[Path]) -> None:
    refused = Simulated(Clock(), paths[0].read_bytes())
    campaign = Campaign([refused], use_cpu_time=True)
    with pytest.raises(ModelError, match=r"model1.onnx: ONNX Runtime refuses it: no such operator"):
        campaign.add(paths[0])
    assert campaign.add(paths[1]) == 0
    campaign.run(0)
    assert len(campaign.visits) == 1


def test_a_provider_may_refuse_a_reference(paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    models = reference_models()
    campaign = Campaign([Simulated(Clock(), models["int8"])], use_cpu_time=True)
    campaign.add(paths[0])
    campaign.run(0)
    assert set(campaign.references_ms()) == {"small", "large"}
    monkeypatch.setattr(campaign_module, "reference_models", lambda: {"int8": models["int8"]})
    with pytest.raises(MeasurementError, match="runs no reference network: no such operator; try another provider"):
        Campaign([Simulated(Clock(), models["int8"])], use_cpu_time=True)


def test_references_take_a_fifth_at_most_and_are_the_same_ones_always() -> None:
    assert sum(REFERENCES_MS.values()) <= 0.2 * VISIT_MS
    assert reference_models() == reference_models()
    assert set(reference_models()) == set(REFERENCES_MS)
    assert reference_models()["small"] == reference_model()


@pytest.mark.parametrize(("level", "rounds", "expected"), [(1.0, 1500, True), (1.0, 10, False)])
def test_a_long_campaign_can_be_the_anchor(paths: list[Path], level: float, rounds: int, expected: bool) -> None:
    clock = Clock(level=level)
    quiet = Campaign([_Quiet(clock)], use_cpu_time=True)
    quiet.add(paths[1])
    quiet.run(0, min_rounds=rounds)
    assert quiet.can_be_anchor() is expected
    busy, _ = simulate(clock, paths[1:2], rounds)  # its wall time is 1.5 times the processor time
    assert not busy.can_be_anchor()


class _Quiet(Simulated):
    def visit(self, model_id: int, duration_ms: float) -> tuple[list[float], list[float]]:
        _, cpu = super().visit(model_id, duration_ms)
        return cpu + cpu, cpu + cpu


# --- with real agents


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(reference_model())
    return path


@pytest.fixture
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalTarget:
    """This machine, without an anchor; a campaign soon becomes one, however busy the machine."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(campaign_module, "ANCHOR_S", 0.2)
    monkeypatch.setattr(campaign_module, "ANCHOR_SPREAD", 100)
    monkeypatch.setattr(campaign_module, "JITTER", 100)
    monkeypatch.setattr(campaign_module, "BUSY", 1e9)
    return LocalTarget(processes=2)


def test_a_real_campaign_visits_fresh_processes(target: LocalTarget, model: Path) -> None:
    with target.campaign() as campaign:
        campaign.add(model)
        campaign.run(0.5, min_rounds=4)
        (visits,) = campaign.visits
    assert [visit.process for visit in visits[:4]] == [0, 1, 0, 1]
    assert set(campaign.references_ms()) == set(REFERENCES_MS)
    assert all(0.1 < visit.slowdown < 10 for visit in visits)
    # The model is the small reference: at the usual speed both take the same time.
    assert campaign.latencies_ms()[0] == pytest.approx(campaign.reference_ms(), rel=0.3)


def test_the_first_campaign_becomes_the_anchor_and_later_ones_are_held_to_it(target: LocalTarget, model: Path) -> None:
    file = anchor_file(target.fingerprint())
    first = target.measure(model, 1.0)
    assert first.speed == 1.0 and first.processes == 2 and first.visits is not None and first.visits >= 3
    kept = json.loads(file.read_text())
    assert kept["target"] == "local?processes=2" and set(kept["reference_ms"]) == set(REFERENCES_MS)
    target.measure(model, 0.5)
    assert json.loads(file.read_text()) == kept and [path.name for path in file.parent.iterdir()] == [file.name]

    fast = {name: ms / 3 for name, ms in kept["reference_ms"].items()}
    file.write_text(json.dumps({**kept, "reference_ms": fast}))
    slow = target.measure(model, 0.5)
    assert slow.speed is not None and slow.speed < 0.6
    assert slow.unstable_because is not None
    assert f"of the speed it had on {kept['made']}" in slow.unstable_because
    assert f"remove {file} to accept the new speed" in slow.unstable_because
    assert slow.p50_ms == pytest.approx(first.p50_ms / 3, rel=0.3)


def test_a_short_campaign_is_no_anchor(target: LocalTarget, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(campaign_module, "ANCHOR_S", 10)
    target.measure(model, 0.3)
    assert not anchor_file(target.fingerprint()).exists()


def test_the_first_anchor_stays(tmp_path: Path) -> None:
    file = tmp_path / "anchors" / "a.json"
    assert load_anchor(file) is None
    save_first(file, Anchor({"small": 1.0}, "then"), "board")
    save_first(file, Anchor({"small": 2.0}, "later"), "board")
    assert load_anchor(file) == Anchor({"small": 1.0}, "then")
    assert list(file.parent.iterdir()) == [file]
    (tmp_path / "full").write_text("a file where a folder should be")
    save_first(tmp_path / "full" / "a.json", Anchor({"small": 1.0}, "then"), "board")  # it is just not kept


@pytest.mark.parametrize("content", ["{", "[]", '{"made": "then"}', '{"made": "then", "reference_ms": {"small": 0}}'])
def test_a_damaged_anchor_is_named(tmp_path: Path, content: str) -> None:
    file = tmp_path / "a.json"
    file.write_text(content)
    with pytest.raises(UserError, match=r"a\.json: not an anchor .*remove it"):
        load_anchor(file)
