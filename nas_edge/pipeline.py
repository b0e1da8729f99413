"""Makes a candidate: search space, training, techniques in order, ONNX file."""

from __future__ import annotations

import copy
import graphlib
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import onnx
import torch
from torch import nn

from nas_edge.contracts import Candidate, Context, ImageData, Objective, Split, Technique, Trainer
from nas_edge.data.preprocess import Preprocess
from nas_edge.errors import InvalidCandidate, NasEdgeError, PluginError, StudyMismatch
from nas_edge.export import check_parity, describe, export_onnx, save_model
from nas_edge.hookspecs import hookimpl
from nas_edge.plugins import Registry
from nas_edge.records import StepRecord
from nas_edge.spec import ArchSpec, CandidateSpec

if TYPE_CHECKING:
    from nas_edge.config import TrainConfig

PARITY_IMAGES = 8
ActiveStep = tuple[Technique, Any]


@hookimpl(trylast=True)
def apply_technique(technique: Technique, stage: str, subject: Any, config: Any, context: Context) -> Any:
    """The engine's own implementation: call the technique."""
    method = getattr(technique, stage)
    return method(config, context) if stage == "objective" else method(subject, config, context)


def order_techniques(techniques: Iterable[Technique]) -> list[Technique]:
    """In the order they act: by their `after`, ties by name, whatever order they were installed in.

    Raises `PluginError` where the declarations contradict each other.
    """
    by_name = {t.name: t for t in techniques}
    sorter = graphlib.TopologicalSorter({n: t.after & by_name.keys() for n, t in by_name.items()})
    ordered: list[Technique] = []
    try:
        sorter.prepare()
    except graphlib.CycleError as error:
        raise PluginError(f"techniques declare a circle of 'after': {' -> '.join(error.args[1])}") from None
    while sorter.is_active():
        ready = sorted(sorter.get_ready())
        ordered += [by_name[name] for name in ready]
        sorter.done(*ready)
    return ordered


def active_steps(registry: Registry, spec: CandidateSpec) -> list[ActiveStep]:
    """The techniques of a spec with their configs. Raises `StudyMismatch` where one has another version now."""
    steps = []
    for step in spec.steps:
        technique: Technique = registry.find("technique", step.technique)
        if technique.version != step.version:
            raise StudyMismatch(
                f"technique {step.technique!r} has version {technique.version}, the candidate was made with "
                f"{step.version}; install the package that was used then"
            )
        steps.append((technique, technique.config_from_json(step.config)))
    return steps


def build_model(registry: Registry, arch: ArchSpec, data: ImageData, seed: int) -> nn.Module:
    """The untrained network behind its preprocessing: images in 0..1 as the data has them, to logits."""
    space = registry.find("search space", arch.space)
    if space.version != arch.version:
        raise StudyMismatch(
            f"search space {arch.space!r} has version {space.version}, the candidate was made with {arch.version}"
        )
    resolution = space.input_size(arch.params, data.resolution)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = space.build(
            arch.params, in_channels=data.channels, num_classes=len(data.classes), resolution=resolution
        )
    return nn.Sequential(Preprocess(data.mean, data.std, data.resolution, resolution), network).eval()


def produce(registry: Registry, spec: CandidateSpec, context: Context, train: TrainConfig) -> Candidate:
    """A candidate from its spec to its ONNX file, `model.onnx` in the context's work folder.

    With `context.trained` False every training is left out: the file is about as fast as the real one, exactly so
    unless a technique declares that `shape_follows_weights`, and good for nothing else.
    Raises `InvalidCandidate` or `ExportError`.
    """
    candidate = Candidate(spec)
    steps = active_steps(registry, spec)
    trainer: Trainer = context.trainer if context.trained else Untrained(context.seed)
    context = replace(context, trainer=trainer)
    restructured = any(technique.overrides("structure") for technique, _ in steps)
    recovery = max(1, round(context.samples * train.recovery_share)) if restructured else context.samples

    model = build_model(registry, spec.arch, context.data, context.seed)
    if restructured:  # otherwise all of the training is the recovery training
        with timed(candidate, "train"):
            model = trainer.fit(model, samples=max(1, context.samples - recovery))
        model = run_stage(registry, candidate, "structure", model, steps, context)
    objectives = make_objectives(registry, candidate, model, steps, context) if context.trained else []
    with timed(candidate, "train"):
        model = trainer.fit(model, samples=recovery, objectives=objectives)
    candidate.model = run_stage(registry, candidate, "finalize", model, steps, context).eval()

    with timed(candidate, "export"):
        data = context.data
        graph = export_onnx(candidate.model, channels=data.channels, resolution=data.resolution)
        if context.trained:
            check_parity(candidate.model, graph, data.validation.images[:PARITY_IMAGES].float() / 255)
    with timed(candidate, "graph"):
        graph = run_stage(registry, candidate, "graph", graph, steps, context)
        candidate.graph = describe(graph, properties(spec, context.data))
        candidate.onnx_path = context.work_dir / "model.onnx"
        save_model(candidate.graph, candidate.onnx_path)
    return candidate


def properties(spec: CandidateSpec, data: ImageData) -> dict[str, str]:
    """What an ONNX file says of itself in its metadata."""
    return {
        "candidate": spec.key,
        "classes": json.dumps(data.classes),
        "input": f"float32 in 0..1, [batch, {data.channels}, {data.resolution}, {data.resolution}]",
        "preprocessing": data.preprocessing,
    }


@dataclass(frozen=True)
class Untrained:
    """Stands in for the trainer where only a candidate's latency is asked for."""

    seed: int

    def fit(self, model: nn.Module, *, samples: int, objectives: Sequence[Objective] = ()) -> nn.Module:
        """A copy whose normalisation layers differ from each other, as trained ones do.

        Fresh ones are all alike, and the exporter would share their constants: ONNX Runtime then fuses less, and the
        file is slower than the trained one.
        """
        model = copy.deepcopy(model)
        generator = torch.Generator().manual_seed(self.seed)
        with torch.no_grad():
            for module in model.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    for values in (*module.parameters(recurse=False), module.running_mean, module.running_var):
                        if values is not None:
                            values.add_(0.1 * torch.rand(values.shape, generator=generator))
        return model

    def accuracy(self, model: nn.Module, split: Split) -> float:
        raise InvalidCandidate("no accuracy is known of a model that was not trained; check context.trained first")


def run_stage(
    registry: Registry, candidate: Candidate, stage: str, subject: Any, steps: Sequence[ActiveStep], context: Context
) -> Any:
    """Thread a model (or graph) through the techniques that override a stage, and record what each did."""
    for technique, config in steps:
        if not technique.overrides(stage):
            continue
        with _recorded(candidate, technique, stage, context) as sizes:
            sizes.append(_size(subject))
            result = _call(registry, technique, stage, subject, config, context)
            sizes.append(_size(result))
        subject = result
    return subject


def make_objectives(
    registry: Registry, candidate: Candidate, model: nn.Module, steps: Sequence[ActiveStep], context: Context
) -> list[Objective]:
    """What the techniques add to the recovery training."""
    objectives = []
    for technique, config in steps:
        if not technique.overrides("objective"):
            continue
        with _recorded(candidate, technique, "objective", context):
            objective = _call(registry, technique, "objective", model, config, context)
        if objective is not None:
            objectives.append(objective)
    return objectives


def _call(registry: Registry, technique: Technique, stage: str, subject: Any, config: Any, context: Context) -> Any:
    """Call a technique through the hook, and see that it kept to its contract."""
    expected = {"graph": onnx.ModelProto, "objective": Objective | None}.get(stage, nn.Module)
    try:
        with _isolated(context.seed):
            result = registry.hooks.hook.apply_technique(
                technique=technique, stage=stage, subject=subject, config=config, context=context
            )
    except SystemExit as error:
        raise NasEdgeError(f"{technique.name}.{stage} called sys.exit({error.code})") from error
    if not isinstance(result, expected):
        wanted = getattr(expected, "__name__", str(expected))
        raise NasEdgeError(f"{technique.name}.{stage} returned {type(result).__name__}, not {wanted}")
    return result


@contextmanager
def _isolated(seed: int) -> Iterator[None]:
    """Give a plugin a random state of its own, and take back what it may leave changed."""
    threads, gradients, dtype = torch.get_num_threads(), torch.is_grad_enabled(), torch.get_default_dtype()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            torch.set_grad_enabled(gradients)
            torch.set_default_dtype(dtype)


@contextmanager
def timed(candidate: Candidate, name: str) -> Iterator[None]:
    """Add the seconds spent to the candidate's record."""
    start = time.perf_counter()
    yield
    candidate.seconds[name] = candidate.seconds.get(name, 0.0) + time.perf_counter() - start


@contextmanager
def _recorded(candidate: Candidate, technique: Technique, stage: str, context: Context) -> Iterator[list[Any]]:
    start, said = time.perf_counter(), len(context.notes)
    sizes: list[tuple[int | None, int | None]] = []
    yield sizes
    before, after = sizes if len(sizes) == 2 else ((None, None), (None, None))
    seconds = round(time.perf_counter() - start, 4)
    notes = tuple(context.notes[said:])
    candidate.steps.append(StepRecord(technique.name, stage, seconds, before[0], after[0], before[1], after[1], notes))


def _size(subject: nn.Module | onnx.ModelProto) -> tuple[int | None, int | None]:
    """Parameters of a torch model, or bytes of a graph."""
    if isinstance(subject, onnx.ModelProto):
        return None, subject.ByteSize()
    return sum(p.numel() for p in subject.parameters()), None
