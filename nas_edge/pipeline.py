"""Makes a candidate: search space, training, techniques in order, ONNX file."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from nas_edge.contracts import Candidate, Context, ImageData, Objective, SearchSpace, Split, Technique
from nas_edge.data.preprocess import Preprocess
from nas_edge.errors import InvalidCandidate, StudyMismatch
from nas_edge.estimate import Estimator
from nas_edge.export import describe, save_model
from nas_edge.figures import Observer
from nas_edge.gate import Gate
from nas_edge.hookspecs import hookimpl
from nas_edge.making import LastTraining, Making, StartAgain, timed
from nas_edge.plugins import Registry
from nas_edge.spec import ArchSpec, CandidateSpec
from nas_edge.steps import ActiveStep, active_steps
from nas_edge.train.trainer import ImageTrainer

if TYPE_CHECKING:
    from nas_edge.config import TrainConfig


Reconsider = Callable[[CandidateSpec, Mapping[str, str]], None]  # what is left of a candidate, and why the rest is not


@hookimpl(trylast=True)
def apply_technique(technique: Technique, stage: str, subject: Any, config: Any, context: Context) -> Any:
    """The engine's own implementation: call the technique."""
    method = getattr(technique, stage)
    return method(config, context) if stage == "objective" else method(subject, config, context)


def produce(
    registry: Registry,
    spec: CandidateSpec,
    context: Context,
    train: TrainConfig,
    *,
    estimator: Estimator | None = None,
    gate: Gate | None = None,
    undone: AbstractSet[str] = frozenset(),
    reconsider: Reconsider | None = None,
) -> Candidate:
    """A candidate from its spec to its ONNX file, `model.onnx` in the context's work folder.

    With `context.trained` False every training is left out: the file is about as fast as the real one, exactly so
    unless a technique declares that `shape_follows_weights`, and good for nothing else. With an estimator the record
    of each step says how large, fast and accurate the candidate was before and after it, on as many validation images
    as tell the gate's drop from chance; a gate undoes steps by that.
    `undone` names techniques that are undone without asking: so a candidate is made again as it was. `reconsider` is
    asked about what is left before a candidate is trained again without what was undone, and raises where it is not
    worth that.
    Raises `InvalidCandidate` or `ExportError`.
    """
    candidate = Candidate(spec)
    steps = active_steps(registry, spec)
    context = _equipped(context, estimator)
    described = properties(spec, context.data)
    observer = Observer(context, estimator, described, (gate or Gate()).images)
    making = Making(registry, candidate, context, observer, gate)
    given = context.ready or registry.find("search space", spec.arch.space).trained
    before, last = shares(steps, context, train, trained=given)

    model = build_model(registry, spec.arch, context.data, context.seed)
    if context.inherit:
        context.inherit(spec.arch, model)
        if isinstance(context.trainer, ImageTrainer):
            context.trainer.recalibrate(model)
    if before:
        model = making.train(model, LastTraining(context.trainer, before, "train"))
    elif given:
        making.begin(model)
    trained, begun = making.look, len(candidate.steps)
    while True:
        standing = [s for s in steps if s.name not in undone and s.name not in making.undone]
        if given:
            _, last = shares(standing, context, train, trained=True)
        try:
            graph = making.compress(model, standing, last)
            break
        except StartAgain as again:
            making.abandon(begun, again)
            if reconsider is not None:
                reconsider(spec.without(undone | making.undone.keys()), making.undone)
            making.look, begun = trained, len(candidate.steps)

    with timed(candidate, "export"):
        candidate.graph = describe(graph, described)
        candidate.onnx_path = context.work_dir / "model.onnx"
        save_model(candidate.graph, candidate.onnx_path)
    left_out = undone | making.undone.keys()
    candidate.techniques = tuple(s.technique for s in spec.steps if s.technique not in left_out)
    return candidate


def _equipped(context: Context, estimator: Estimator | None) -> Context:
    """The context with what techniques may ask of this candidate's training and target."""
    if not context.trained:
        context = replace(context, trainer=Untrained(context.seed))
    if estimator is None:
        return context
    return replace(context, latency_ms=lambda model: estimator.model_ms(model, context.data))


def shares(
    steps: Sequence[ActiveStep], context: Context, train: TrainConfig, *, trained: bool = False
) -> tuple[int, LastTraining]:
    """How a candidate's training is divided: images before its techniques act, and the training after.

    Without a technique that acts on the network all is one training. The joint fine-tuning is the end of the last one.
    A network that comes trained has all of it after its techniques, and none where they leave it to the ONNX file; one
    that inherits its weights has to settle in any case.
    """
    reshaped = any(step.reshapes for step in steps)
    in_training = reshaped or any(step.technique.overrides("objective") for step in steps)
    tuned = round(context.samples * train.finetune_share) if in_training else 0
    trainer = context.trainer
    if tuned and isinstance(trainer, ImageTrainer):
        trainer = replace(trainer, finetune_samples=tuned)
    if trained:
        return 0, LastTraining(trainer, context.samples if in_training or context.ready else 0, "recover")
    if not reshaped:
        return 0, LastTraining(trainer, context.samples, "train")
    recovery = max(1, round(context.samples * train.recovery_share)) + tuned
    return max(1, context.samples - recovery), LastTraining(trainer, recovery, "recover")


def build_model(registry: Registry, arch: ArchSpec, data: ImageData, seed: int) -> nn.Module:
    """The network behind its preprocessing: images in 0..1 as the data has them, to logits."""
    space: SearchSpace = registry.find("search space", arch.space)
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
    if space.takes_images:
        return network.eval()
    return nn.Sequential(Preprocess(data.mean, data.std, data.resolution, resolution), network).eval()


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
