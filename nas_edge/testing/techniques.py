"""The checks of a technique."""

from __future__ import annotations

import copy
import functools
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import nn

from nas_edge.contracts import Context, Scope, Technique
from nas_edge.errors import InvalidCandidate
from nas_edge.export import check_parity, export_onnx, logits, session
from nas_edge.figures import counted
from nas_edge.plugins import OWN_DISTRIBUTION, load_plugins
from nas_edge.steps import ActiveStep, check_exclusive, order_techniques
from nas_edge.testing import checks
from nas_edge.testing.checks import doing, require
from nas_edge.testing.configs import ConfigTests
from nas_edge.testing.given import inputs, toy_context
from nas_edge.testing.making import Made, make
from nas_edge.testing.networks import CHANNELS, CLASSES, NETWORKS, SIDE, every_block, made
from nas_edge.testing.touched import touched

LEAVE_ALONE = "leave alone what it cannot compress, and say so with context.note(...)"
REDUCIBLE = ("parameters", "macs", "size_bytes", "compressed_bytes")
each_network = pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)


class TechniqueTests(ConfigTests):
    """Give the fixture `technique`, and inherit the checks.

    What a check cannot know, a subclass may say: `configs` to try beside sampled ones (else the default one; the first
    is tried on every network); `impossible` configs, as JSON, that must be refused; what the technique `reduces`
    (parameters, macs, size_bytes or compressed_bytes of the file) and configs of which each is `stronger` than the one
    before. It may also override the fixture `context`.
    """

    reduces: ClassVar[str | None] = None
    stronger: ClassVar[Sequence[Any]] = ()

    @pytest.fixture
    def context(self, tmp_path: Path) -> Context:
        """What the technique is given: real data, a trainer, a teacher, a folder of its own."""
        return toy_context(tmp_path, teacher=made(NETWORKS["plain"]))

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "other" in metafunc.fixturenames:
            others = builtin_techniques()
            metafunc.parametrize("other", others, ids=[t.name for t in others])

    def test_what_it_is_given_stays_as_it_is(self, technique: Technique, context: Context) -> None:
        for config in self.tried(technique):
            model = made(NETWORKS["squeeze_excite"])
            model.get_submodule("1.0").requires_grad_(False)
            self.walk(technique, config, model, context, watch=touched)

    @pytest.mark.parametrize("grad", [True, False], ids=["with_gradients", "without"])
    def test_the_process_stays_as_it_is(self, technique: Technique, context: Context, grad: bool) -> None:
        for config in self.tried(technique):
            model = made(NETWORKS["squeeze_excite"])
            self.walk(technique, config, model, context, watch=lambda what, *_: checks.watched(what, grad=grad))

    def walk(
        self, technique: Technique, config: Any, model: nn.Module, context: Context, watch: Callable[..., Any]
    ) -> None:
        """Call each stage that it overrides, in order, under a watch that is told the stage and what it is given."""
        subject: Any = model
        for stage in ("structure", "objective", "finalize", "graph"):
            if stage == "graph":
                subject = export_onnx(subject, channels=CHANNELS, resolution=SIDE)
            if not technique.overrides(stage):
                continue
            what = f"{technique.name}.{stage} with {config!r}"
            with checks.restored(), doing(what, LEAVE_ALONE), watch(what, subject, context.teacher, context.data):
                if stage == "objective":
                    technique.objective(config, context)
                else:
                    subject = getattr(technique, stage)(subject, config, context)

    def test_the_same_seed_gives_the_same_file(self, technique: Technique, context: Context) -> None:
        for config in self.tried(technique):
            contents = []
            for ambient in (1, 2):
                checks.disturb(ambient)
                contents.append(self.make(technique, config, NETWORKS["squeeze_excite"], context).content)
            require(
                contents[0] == contents[1],
                f"{technique.name} with {config!r} made two files that differ, from one network and one seed; draw "
                "from torch's generator, which is seeded for each stage, or from one of your own that is seeded with "
                "context.seed, and go through no set",
            )

    @each_network
    def test_it_keeps_the_shapes(
        self, technique: Technique, context: Context, network: Callable[[], nn.Module]
    ) -> None:
        """Of the logits, for one image and for several, at each stage."""
        config, model = self.tried(technique)[0], made(network)
        for stage in ("structure", "finalize"):
            what = f"{technique.name}.{stage} on the network {network.__name__!r}"
            with doing(what, LEAVE_ALONE):
                model = getattr(technique, stage)(model, config, context)
            require(isinstance(model, nn.Module), f"{what} returned {model!r}; return the network")
            for count in (1, 3):
                with doing(f"the network after {what}, on {count} images,", LEAVE_ALONE), torch.no_grad():
                    found = copy.deepcopy(model).eval()(inputs(count))
                require(
                    found.shape == (count, CLASSES),
                    f"{what} made logits of shape {tuple(found.shape)} of {count} images in {CLASSES} classes; keep "
                    "the classifier's outputs and the batch",
                )
                require(found.isfinite().all(), f"{what} made logits that are not finite; look for a division by zero")

    @each_network
    def test_its_file_computes_the_same(
        self, technique: Technique, context: Context, network: Callable[[], nn.Module]
    ) -> None:
        """In ONNX Runtime as in torch; and what its graph stage makes of the file still runs."""
        found = self.make(technique, self.tried(technique)[0], network, context)
        what = f"{technique.name} on the network {network.__name__!r}"
        with doing(f"{what}: ONNX Runtime", "leave in `finalize` only what exports and computes the same there"):
            check_parity(found.model, found.exported, inputs())
        self.check_file(what, found)

    def test_it_works_before_any_training(self, technique: Technique, context: Context) -> None:
        """In the quick pass that asks how fast a candidate would be: without training, with random weights."""
        untrained = replace(context, trained=False)
        found = self.make(technique, self.tried(technique)[0], every_block, untrained)
        self.check_file(f"{technique.name} in the quick pass, with context.trained False,", found)

    def test_it_does_something(self, technique: Technique, context: Context) -> None:
        """One of its configs, or of ten sampled ones, changes the file or adds to the training."""
        plain = of_plain(())
        sampled = [technique.suggest(Scope(trial, technique.name)) for trial in checks.random_trials(10)]
        for config in (*self.tried(technique), *sampled):
            if self.make(technique, config, every_block, context).content != plain.content:
                return
        pytest.fail(
            f"{technique.name} left the file as it is, with each of {len(sampled)} sampled configs; return the changed "
            "copy, and not the network that was given",
            pytrace=False,
        )

    def test_it_reduces_what_it_declares(self, technique: Technique, context: Context) -> None:
        """Each of `stronger` leaves no more of it than the one before, and the last one less."""
        if self.reduces is None:
            pytest.skip("it declares no effect: say what it `reduces`, and which configs are `stronger`")
        require(self.reduces in REDUCIBLE, f"reduces is {self.reduces!r}; give one of {', '.join(REDUCIBLE)}")
        configs = self.stronger or (self.tried(technique)[0],)
        files = [self.make(technique, config, every_block, context) for config in configs]
        amounts = [self.amount(of_plain(())), *map(self.amount, files)]
        require(
            amounts[1] < amounts[0],
            f"{technique.name} with {configs[0]!r} leaves {amounts[1]:,} {self.reduces} of {amounts[0]:,}, which is "
            "no less; declare in `reduces` what it does reduce",
        )
        for config, before, after in zip(configs[1:], amounts[1:], amounts[2:], strict=False):
            require(
                after <= before,
                f"{technique.name} with {config!r} leaves {after:,} {self.reduces}, more than the weaker config's "
                f"{before:,}; order `stronger` from weak to strong, or mend what the config does",
            )
        require(
            len(configs) == 1 or amounts[-1] < amounts[1],
            f"{technique.name} leaves {amounts[-1]:,} {self.reduces} with all of `stronger`; let the config count",
        )

    def test_training_goes_through_its_objective(self, technique: Technique, context: Context) -> None:
        """The loss is a finite scalar, and when the training has ended the network is one of the same parts again."""
        if not technique.overrides("objective"):
            pytest.skip("it adds nothing to the training")
        for config in self.tried(technique):
            model = technique.structure(made(every_block), config, context)
            objective = technique.objective(config, context)
            if objective is None:
                continue
            name, before, model = f"{technique.name}'s objective", parts(model), copy.deepcopy(model).train()
            images, labels = inputs(8), context.data.train.labels[:8]
            with (
                doing(f"{name} with {config!r}", "see the docstrings of nas_edge.Objective"),
                touched(f"{name} with {config!r}", context.teacher, context.data),
            ):
                objective.prepare(model)
                loss = objective.loss(images, labels, model(images))
                objective.epoch_end(model, 1, 1)
                objective.finish(model)
            require(
                torch.equal(images, inputs(8)),
                f"{name} with {config!r} changed the images of the batch, which others still learn from; change a copy",
            )
            require(
                loss is None or (loss.ndim == 0 and bool(loss.isfinite())),
                f"{name} gave the loss {loss!r}; return a finite scalar, the mean over the batch, or None",
            )
            left = parts(model) - before
            require(
                not left,
                f"{name} left on the network: {', '.join(sorted(left))}; take it off in `finish`",
            )

    def test_it_composes_with(self, technique: Technique, context: Context, other: Technique) -> None:
        """With each technique that ships, in the engine's order; and it still reduces what it declares."""
        try:
            check_exclusive([technique, other])
        except InvalidCandidate:
            pytest.skip("the engine has but one of the two on: they decide the same")
        if other.name == technique.name:
            pytest.skip("the same technique")
        config = self.tried(technique)[0]
        with doing("the engine's order", "leave out of `after` a technique that must act later"):
            ordered = order_techniques([technique, other])
        steps = [ActiveStep(t, config if t is technique else t.config_type()) for t in ordered]
        what = " and then ".join(t.name for t in ordered)
        with doing(what, f"{LEAVE_ALONE}, or name in `after` what must act earlier"):
            found = make(steps, every_block, context)
        with doing(f"{what}: ONNX Runtime", "leave in `finalize` only what exports and computes the same there"):
            check_parity(found.model, found.exported, inputs())
        self.check_file(what, found)
        if self.reduces is not None:
            alone, both = self.amount(of_plain((other.name,))), self.amount(found)
            require(
                both < alone,
                f"{what} leaves {both:,} {self.reduces}, and {other.name} alone {alone:,}: one undoes the other; "
                "name in `after` what must act earlier",
            )

    def amount(self, found: Made) -> int:
        return int(getattr(counted(found.final), self.reduces or ""))

    def make(self, technique: Technique, config: Any, network: Callable[[], nn.Module], context: Context) -> Made:
        what = f"{technique.name} with {config!r} on the network {network.__name__!r}"
        with doing(what, LEAVE_ALONE):
            return make([ActiveStep(technique, config)], network, context)

    def check_file(self, what: str, found: Made) -> None:
        """The final file takes and gives what it did, and runs."""
        names = [v.name for v in (*found.exported.graph.input, *found.exported.graph.output)]
        final = [v.name for v in (*found.final.graph.input, *found.final.graph.output)]
        require(names == final, f"{what}: the file's inputs and outputs became {final}; keep {names}")
        for count in (1, 3):
            with doing(f"{what}: ONNX Runtime", "make in `graph` a model that onnx.checker.check_model accepts"):
                outputs = torch.from_numpy(logits(session(found.final, threads=1), inputs(count).numpy()))
            require(
                outputs.shape == (count, CLASSES) and bool(outputs.isfinite().all()),
                f"{what}: the file gives {tuple(outputs.shape)} of {count} images in {CLASSES} classes, or numbers "
                "that are not finite; keep the batch dynamic and the logits as they are",
            )


def builtin_techniques() -> list[Technique]:
    """The techniques that ship."""
    registry = load_plugins()
    return [t for name, t in registry.techniques.items() if is_builtin("technique", name)]


def is_builtin(kind: str, name: str) -> bool:
    return load_plugins().owners[kind, name].distribution == OWN_DISTRIBUTION


@functools.cache
def of_plain(names: tuple[str, ...]) -> Made:
    """The file of the network with every block, with these techniques at their defaults or with none."""
    techniques = load_plugins().techniques
    with tempfile.TemporaryDirectory() as folder:
        context = toy_context(Path(folder), teacher=made(NETWORKS["plain"]))
        return make([ActiveStep(techniques[n], techniques[n].config_type()) for n in names], every_block, context)


def parts(model: nn.Module) -> set[str]:
    """The names of what a network consists of: modules, parameters, buffers, hooks."""
    found = {f"the module {n}" for n, _ in model.named_modules()}
    found |= {f"the tensor {n}" for n, _ in (*model.named_parameters(), *model.named_buffers())}
    for name, module in model.named_modules():
        hooks = len(module._forward_hooks) + len(module._forward_pre_hooks) + len(module._backward_hooks)
        found |= {f"hook {i + 1} of {name or 'the network'}" for i in range(hooks)}
    return found
