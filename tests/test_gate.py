"""The gate: what is undone, what stays, why, and what the record says of each step."""

from __future__ import annotations

import copy
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from nas_edge import (
    ArchSpec,
    Candidate,
    CandidateSpec,
    Context,
    InvalidCandidate,
    Measurement,
    Objective,
    Prediction,
    Split,
    Step,
    Target,
    Technique,
    hookimpl,
)
from nas_edge.config import TrainConfig
from nas_edge.estimate import Estimator, Latency
from nas_edge.export import accuracy, describe, export_onnx
from nas_edge.figures import Look, Observer, baked
from nas_edge.gate import Effect, Gate
from nas_edge.latency.graph import parameter_count, total_macs
from nas_edge.pipeline import produce, properties
from nas_edge.plugins import Registry
from nas_edge.records import Figures, StepRecord
from nas_edge.train.trainer import ImageTrainer

from .plugins.toys import toy_data
from .test_pipeline import make_registry, technique

ARCH = ArchSpec("tiny", 1, {"width": 8, "features": 16, "kernel": 3})
MS_A_MAC = 1e-6


class ByMacs:
    """A profile that knows the work of a network, and that a marked one cannot be predicted."""

    @hookimpl
    def predict_latency(self, graph: onnx.ModelProto, target: Target) -> Prediction:
        macs = total_macs(graph) or 0
        unknown = ("Mystery",) if graph.doc_string == "unpredictable" else ()
        return Prediction(MS_A_MAC * macs, 0.9 * MS_A_MAC * macs, 1.1 * MS_A_MAC * macs, unknown)


@dataclass
class Bench(Target):
    """Measures 10 ns a byte, and counts how often."""

    name: str = "bench"
    asked: list[int] = field(default_factory=list)

    def fingerprint(self) -> dict[str, Any]:
        return {"cpu": self.name}

    def measure(self, model: Path, budget_s: float) -> Measurement:
        self.asked.append(model.stat().st_size)
        ms = 1e-5 * model.stat().st_size
        return Measurement(ms, ms, 0.99 * ms, 1.01 * ms, 10, self.name)


class Damage(nn.Identity):
    """Marks a network whose accuracy has gone."""


@dataclass
class Scripted:
    """Trains nothing, and finds the accuracy of a network by how much damage it holds, and whether it recovered."""

    asked: list[tuple[int, int]] = field(default_factory=list)
    recovers: float = 0.0

    def fit(self, model: nn.Module, *, samples: int, objectives: Sequence[Objective] = ()) -> nn.Module:
        model = copy.deepcopy(model)
        self.asked.append((samples, len(objectives)))
        for objective in objectives:
            objective.epoch_end(model, 1, 1)
        for module in model.modules():
            if isinstance(module, Damage):
                module.cost = self.costs(module) - self.recovers  # type: ignore[assignment]
        return model

    @staticmethod
    def costs(module: nn.Module) -> float:
        return float(getattr(module, "cost", 0.0))

    def accuracy(self, model: nn.Module, split: Split) -> float:
        return 0.9 - sum(max(0.0, self.costs(m)) for m in model.modules() if isinstance(m, Damage))


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return Context(toy_data(), Bench(), Scripted(), tmp_path, seed=0, samples=100)


def make(context: Context, *techniques: Technique, gate: Gate | None = None, trained: bool = True) -> Candidate:
    registry = make_registry(*techniques)
    registry.hooks.register(ByMacs())
    spec = CandidateSpec(ARCH, tuple(Step(t.name, t.version, {}) for t in techniques))
    folder = context.work_dir / f"{len(list(context.work_dir.iterdir()))}"
    folder.mkdir()
    context = replace(context, work_dir=folder, trained=trained, notes=[])
    estimator = Estimator(registry, context.target, folder)
    return produce(registry, spec, context, TrainConfig(), estimator=estimator, gate=gate)


def steps_of(candidate: Candidate) -> list[tuple[str, str, bool]]:
    return [(s.technique, s.stage, s.undone is not None) for s in candidate.steps]


def record(candidate: Candidate, name: str, stage: str) -> StepRecord:
    (found,) = (s for s in candidate.steps if (s.technique, s.stage) == (name, stage))
    return found


def narrower(self: Technique, model: Any, config: Any, context: Context) -> nn.Module:
    """Half of the last convolution's channels."""
    model = copy.deepcopy(model)
    network = model[1]
    old, norm, linear = network[3], network[4], network[7]
    half, places = old.out_channels // 2, linear.in_features // old.out_channels
    network[3] = nn.Conv2d(old.in_channels, half, 3, 2, 1, bias=False)
    network[3].weight.data = old.weight.data[:half]
    network[4] = nn.BatchNorm2d(half)
    for name in ("weight", "bias", "running_mean", "running_var"):
        getattr(network[4], name).data = getattr(norm, name).data[:half]
    network[7] = nn.Linear(half * places, linear.out_features)
    network[7].weight.data, network[7].bias.data = linear.weight.data[:, : half * places], linear.bias.data
    narrow: nn.Module = model
    return narrow


def wider(self: Technique, model: Any, config: Any, context: Context) -> nn.Module:
    """One convolution more, for nothing."""
    extra = nn.Conv2d(3, 3, 3, padding=1)
    return nn.Sequential(extra, *copy.deepcopy(model))


def same(self: Technique, model: Any, config: Any, context: Context) -> Any:
    return copy.deepcopy(model)


def damaging(cost: float) -> Any:
    def structure(self: Technique, model: Any, config: Any, context: Context) -> nn.Module:
        model = narrower(self, model, config, context)
        damage = Damage()
        damage.cost = cost  # type: ignore[assignment]
        return nn.Sequential(*model, damage)

    return structure


def renamed(self: Technique, model: onnx.ModelProto, config: Any, context: Context) -> onnx.ModelProto:
    made = onnx.ModelProto()
    made.CopyFrom(model)
    made.doc_string = "other"
    return made


def test_a_step_that_makes_the_file_slower_and_larger_is_undone(context: Context) -> None:
    made = make(context, technique("a", structure=wider), gate=Gate())
    step = record(made, "a", "structure")
    assert str(step.undone).startswith("neither faster (latency +")
    assert step.before.macs is not None and step.after.macs is not None
    assert step.after.macs - step.before.macs == 9 * 3 * 3 * 16 * 16
    assert made.techniques == () and len(made.model) == 2  # type: ignore[arg-type]
    assert isinstance(context.trainer, Scripted)
    assert [samples for samples, _ in context.trainer.asked] == [60, 40]


def test_a_smaller_one_stays_and_without_a_gate_all_stay(context: Context) -> None:
    made = make(context, technique("a", structure=narrower), technique("b", structure=wider), gate=Gate())
    assert made.techniques == ("a",)
    assert [s.undone is None for s in made.steps if s.technique != "training"] == [True, False]
    free = make(context, technique("a", structure=narrower), technique("b", structure=wider))
    assert free.techniques == ("a", "b")
    assert all(s.undone is None for s in free.steps)


def test_what_stays_is_made_as_if_the_undone_had_not_been(context: Context) -> None:
    """So the recipe, with what was undone, makes the same file again."""
    techniques = [technique("a", structure=narrower), technique("b", structure=wider), technique("c", graph=renamed)]
    gated = make(context, *techniques, gate=Gate())
    registry = make_registry(*techniques)
    again = produce(registry, gated.spec, context, TrainConfig(), undone={"b", "c"})
    assert gated.techniques == again.techniques == ("a",)
    assert gated.graph == again.graph


def test_a_graph_step_is_undone_in_place(context: Context) -> None:
    made = make(context, technique("a", graph=renamed), gate=Gate())
    step = record(made, "a", "graph")
    assert step.undone == "neither faster (latency +0.0%) nor smaller (file +0.1%, compressed +0.1%)"
    assert made.graph is not None and made.graph.doc_string == "" and made.techniques == ()
    assert isinstance(context.trainer, Scripted) and context.trainer.asked == [(100, 0)]


@pytest.mark.parametrize(("cost", "recovers", "stays"), [(0.3, 0.0, False), (0.3, 0.26, True), (0.04, 0.0, True)])
def test_accuracy_is_judged_after_recovery(cost: float, recovers: float, stays: bool, context: Context) -> None:
    context = replace(context, trainer=Scripted(recovers=recovers))
    made = make(context, technique("a", structure=damaging(cost)), gate=Gate(max_drop=0.05))
    assert made.techniques == (("a",) if stays else ())
    assert isinstance(context.trainer, Scripted)
    assert [samples for samples, _ in context.trainer.asked] == ([60, 40] if stays else [60, 40, 40])
    if not stays:
        reason = "accuracy 90.0% -> 60.0% after recovery, more than 5 points lost"
        assert [(s.technique, s.stage, s.undone) for s in made.steps] == [
            ("training", "train", None),
            ("a", "structure", reason),
            ("training", "recover", "made again without a"),
            ("training", "recover", None),
        ]
        assert made.steps[-1].before.accuracy == made.steps[-1].after.accuracy == 0.9


def test_the_costliest_goes_first_and_then_all(context: Context) -> None:
    cheap, dear = technique("a", structure=damaging(0.03)), technique("b", structure=damaging(0.2))
    made = make(context, cheap, dear, gate=Gate(max_drop=0.05))
    assert made.techniques == ("a",)
    made = make(context, cheap, dear, gate=Gate(max_drop=0.01))
    assert made.techniques == ()
    assert [s.stage for s in made.steps].count("recover") == 3
    undone = {s.technique: s.undone for s in made.steps if s.technique != "training" and s.undone}
    assert "90.0% -> 87.0% after recovery" in str(undone["a"]) and "90.0% -> 67.0%" in str(undone["b"])


class Coarse(nn.Module):
    """Rounds to a grid of 16 values."""

    def forward(self, x: Tensor) -> Tensor:
        return (x * 8).round() / 8


def late(name: str, shrinks: bool) -> Technique:
    """Attaches a parametrization, that ends in the graph: there it makes the file smaller, or does not."""

    def structure(self: Technique, model: Any, config: Any, context: Context) -> nn.Module:
        model = copy.deepcopy(model)
        if shrinks:
            parametrize.register_parametrization(model[1][7], "weight", Coarse())
        return model  # type: ignore[no-any-return]

    def finalize(self: Technique, model: Any, config: Any, context: Context) -> nn.Module:
        return baked(model)

    return technique(name, structure=structure, finalize=finalize)


@pytest.mark.parametrize("shrinks", [True, False])
def test_a_technique_of_several_stages_is_judged_by_all_of_them(shrinks: bool, context: Context) -> None:
    made = make(context, late("a", shrinks), gate=Gate())
    assert made.techniques == (("a",) if shrinks else ())
    stages = [("training", "train"), ("a", "structure"), ("training", "recover"), ("a", "finalize")]
    if shrinks:
        assert [(s.technique, s.stage) for s in made.steps] == stages
        first, last = record(made, "a", "structure"), record(made, "a", "finalize")
        assert first.before.size_bytes == last.after.size_bytes
        assert first.before.compressed_bytes is not None and last.after.compressed_bytes is not None
        assert last.after.compressed_bytes < 0.9 * first.before.compressed_bytes
    else:
        assert [(s.technique, s.stage) for s in made.steps] == [*stages, ("training", "recover")]
        assert str(made.steps[3].undone).startswith("neither faster")
        assert made.steps[2].undone == "made again without a"


def test_a_gain_made_in_training_counts_for_the_technique_that_made_it(context: Context) -> None:
    """Gradual sparsity: nothing at first, zeros after the training."""

    class Zeros(Objective):
        def epoch_end(self, model: nn.Module, epoch: int, epochs: int) -> None:
            with torch.no_grad():
                model.get_parameter("1.7.weight").zero_()

    def objective(self: Technique, config: Any, context: Context) -> Objective:
        return Zeros()

    made = make(context, technique("a", structure=same, objective=objective, finalize=same), gate=Gate())
    assert made.techniques == ("a",)
    training = record(made, "training", "recover")
    assert training.before.compressed_bytes is not None and training.after.compressed_bytes is not None
    assert training.after.compressed_bytes < 0.8 * training.before.compressed_bytes
    assert record(made, "a", "finalize").undone is None


def test_what_only_adds_to_the_loss_is_never_undone(context: Context) -> None:
    def objective(self: Technique, config: Any, context: Context) -> Objective:
        return Objective()

    made = make(context, technique("a", objective=objective), gate=Gate())
    assert made.techniques == ("a",)
    assert steps_of(made) == [("a", "objective", False), ("training", "train", False)]


def test_a_draft_takes_the_same_decisions(context: Context) -> None:
    techniques = [
        technique("a", structure=narrower),
        technique("b", structure=wider),
        late("c", False),
        technique("d", graph=renamed),
    ]
    trained, draft = (make(context, *techniques, gate=Gate(), trained=t) for t in (True, False))
    assert trained.techniques == draft.techniques == ("a",)
    assert steps_of(trained) == steps_of(draft)
    assert all(s.before.accuracy is None and s.after.accuracy is None for s in draft.steps)
    last, first = draft.steps[-1].after, trained.steps[-1].after
    assert (last.latency_ms, last.macs) == (first.latency_ms, first.macs)


def test_the_record_says_what_the_files_say(tmp_path: Path) -> None:
    """Against the same networks exported, compressed and judged here."""
    data = toy_data()
    trainer = ImageTrainer(data, TrainConfig(device="cpu"), 0)
    context = Context(data, Bench(), trainer, tmp_path, seed=0, samples=640)
    seen: dict[str, nn.Module] = {}

    def structure(self: Technique, model: Any, config: Any, context: Context) -> nn.Module:
        seen["before"], seen["after"] = model, narrower(self, model, config, context)
        return seen["after"]

    made = make(context, technique("a", structure=structure), technique("b", graph=renamed))
    step = record(made, "a", "structure")
    for model, found in ((seen["before"], step.before), (seen["after"], step.after)):
        graph = describe(export_onnx(model, channels=3, resolution=16), properties(made.spec, data))
        content = graph.SerializeToString()
        images, labels = data.validation.images.float() / 255, data.validation.labels
        with torch.no_grad():
            right = float((model(images).argmax(1) == labels).float().mean())
        assert found.accuracy == pytest.approx(right)
        assert found == Figures(
            parameters=parameter_count(graph),
            macs=total_macs(graph),
            size_bytes=len(content),
            compressed_bytes=len(zlib.compress(content, 6)),
            latency_ms=MS_A_MAC * (total_macs(graph) or 0),
            latency_source="predicted",
            accuracy=found.accuracy,
        )
    assert made.graph is not None
    last = record(made, "b", "graph")
    assert last.after.accuracy == made.accuracy == accuracy(made.graph, data.validation)
    trainings = [s for s in made.steps if s.technique == "training"]
    assert trainings[0].before == Figures() and trainings[0].after == step.before
    assert trainings[1].before == step.after and trainings[1].notes == ("256 images",)
    with torch.no_grad():
        right = float((made.model(images).argmax(1) == labels).float().mean())  # type: ignore[misc]
    assert trainings[1].after.accuracy == pytest.approx(right)
    assert all(s.seconds >= 0 for s in made.steps)


def test_where_nothing_predicts_both_sides_are_measured_once(context: Context) -> None:
    def unpredictable(self: Technique, model: onnx.ModelProto, config: Any, context: Context) -> onnx.ModelProto:
        made = renamed(self, model, config, context)
        made.doc_string = "unpredictable"
        made.graph.node[-1].name = "renamed"
        return made

    made = make(context, technique("a", graph=unpredictable), gate=Gate())
    step = record(made, "a", "graph")
    assert isinstance(context.target, Bench) and len(context.target.asked) == 2
    assert step.before.latency_source == step.after.latency_source == "measured"
    assert step.undone is not None  # a few bytes are within the noise of a measurement


def look(ms: float, *, source: str = "predicted", spread: float = 0.0, size: int = 100, packed: int = 100) -> Look:
    latency = Latency(ms, ms * (1 - spread), ms * (1 + spread), source)
    return Look(Figures(size_bytes=size, compressed_bytes=packed)).with_latency(latency)


@pytest.mark.parametrize(
    ("after", "useless"),
    [
        (look(1.0), True),
        (look(0.991), True),
        (look(0.989), False),
        (look(2.0, size=98), False),
        (look(2.0, packed=98), False),
        (look(0.9, source="measured"), False),  # not comparable: not known
        (look(2.0).with_latency(None), False),
    ],
)
def test_what_counts_as_a_gain(after: Look, useless: bool) -> None:
    effect = Effect()
    effect.add(look(1.0), after)
    assert (Gate().useless(effect) is not None) == useless


def test_measurements_that_overlap_are_no_gain() -> None:
    for spread, useless in ((0.05, True), (0.001, False)):
        effect = Effect()
        effect.add(look(1.0, source="measured", spread=spread), look(0.95, source="measured", spread=spread))
        assert (Gate().useless(effect) is not None) == useless


def test_the_effects_of_several_stages_multiply() -> None:
    effect = Effect()
    effect.add(look(1.0, packed=100), look(3.0, packed=50))
    effect.add(look(4.0, packed=60), look(1.0, packed=30))
    assert (effect.latency, effect.size, effect.compressed) == (0.75, 1.0, 0.25)


def test_nothing_is_lost_where_a_look_saw_nothing() -> None:
    graph = onnx.ModelProto(doc_string="first")
    first = replace(look(1.0), graph=graph)
    blind = first.then(Look(Figures(parameters=7)))
    assert blind.figures == replace(first.figures, parameters=7)
    assert blind.graph is graph and blind.latency == first.latency
    half = first.then(Look(Figures(size_bytes=5), onnx.ModelProto(doc_string="second")))
    assert half.graph is graph and half.figures.size_bytes == 5 and half.latency == first.latency


def test_the_budget_is_inclusive() -> None:
    assert Gate(max_drop=0.05).too_costly(0.9, 0.85) is None
    assert Gate(max_drop=0.05).too_costly(0.9, 0.849) == "accuracy 90.0% -> 84.9%, more than 5 points lost"
    assert Gate().too_costly(None, 0.5) is None


def test_a_model_that_does_not_export_is_known_by_what_it_is(context: Context) -> None:
    class Odd(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            values: Tensor = torch.linalg.eigvalsh(x[:, 0])
            return values

    registry = make_registry()
    registry.hooks.register(ByMacs())
    observer = Observer(context, Estimator(registry, context.target, context.work_dir))
    found = observer.model(nn.Sequential(Odd(), nn.Linear(16, 5)))
    assert found.graph is None
    assert found.figures == Figures(parameters=85, accuracy=0.9)


def test_techniques_may_ask_for_the_latency_of_a_model(context: Context) -> None:
    asked: list[float] = []

    def structure(self: Technique, model: Any, config: Any, context: Context) -> Any:
        assert context.latency_ms is not None
        asked.append(context.latency_ms(model))
        return narrower(self, model, config, context)

    made = make(context, technique("a", structure=structure))
    assert asked == [record(made, "a", "structure").before.latency_ms]


def test_two_techniques_that_decide_the_same_are_refused(context: Context) -> None:
    first, second = (technique(n, graph=renamed, exclusive=frozenset({"precision"})) for n in ("a", "b"))
    message = (
        "techniques 'a' and 'b' both decide the precision, and only one may; "
        "turn one of them off, as with --set b.enabled=false"
    )
    with pytest.raises(InvalidCandidate) as caught:
        make(context, first, second)
    assert str(caught.value) == message
    assert make(context, first, technique("c", graph=renamed, exclusive=frozenset({"shape"}))).techniques == ("a", "c")


def test_old_records_are_read(context: Context) -> None:
    old = {
        "technique": "a",
        "stage": "structure",
        "seconds": 1.0,
        "parameters_before": 10,
        "parameters_after": 5,
        "bytes_before": None,
        "bytes_after": None,
        "notes": ["halved"],
    }
    found = StepRecord.from_json(old)
    assert found == StepRecord("a", "structure", 1.0, Figures(parameters=10), Figures(parameters=5), ("halved",))


def test_the_registry_of_these_tests_is_a_registry() -> None:
    assert isinstance(make_registry(), Registry)


def test_writing_weights_down_leaves_other_copies_as_they_are() -> None:
    layer = nn.Linear(4, 3)
    expected = Coarse()(layer.weight.detach())
    parametrize.register_parametrization(layer, "weight", Coarse())
    model = nn.Sequential(layer)
    twin = copy.deepcopy(model)
    plain = baked(model)
    assert type(plain.get_submodule("0")) is nn.Linear
    inputs = torch.ones(1, 4)
    assert torch.equal(plain(inputs), model(inputs)) and torch.equal(twin(inputs), model(inputs))
    assert torch.equal(plain.get_parameter("0.weight"), expected)
