"""The checks of a search space."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from typing import ClassVar

import pytest
import torch
import torch.nn.functional as F

from nas_edge.contracts import Scope, SearchSpace
from nas_edge.errors import InvalidCandidate
from nas_edge.export import check_parity, export_onnx
from nas_edge.testing import checks
from nas_edge.testing.checks import doing, require
from nas_edge.testing.keys import __file__ as KEYS_FILE
from nas_edge.testing.keys import described, keys
from nas_edge.testing.steered import Corner, build, corners, differ, walk

HASH_SEEDS = ("1", "2")


class SearchSpaceTests(checks.OwnWorld):
    """Give the fixture `space`, and inherit the checks.

    A subclass may say for which images its networks are: of which `side` in pixels and how many `channels`, in how many
    `classes`; and how many `corners` are built and exported at most.
    """

    side: ClassVar[int] = 32
    channels: ClassVar[tuple[int, ...]] = (3, 1)
    classes: ClassVar[int] = 5
    corners: ClassVar[int] = 8

    @pytest.fixture
    def space(self) -> SearchSpace:
        """The search space under test: the one thing that a subclass must give."""
        raise NotImplementedError("give the fixture: `@pytest.fixture def space(self): return MySpace()`")

    def test_it_declares_what_the_engine_asks(self, space: SearchSpace) -> None:
        checks.check_name("the search space", getattr(space, "name", None), space.version)

    def test_it_samples_only_its_own_parameters(self, space: SearchSpace) -> None:
        checks.check_own_parameters(space.name, space.suggest)

    def test_its_choices_are_the_same_in_every_trial(self, space: SearchSpace) -> None:
        checks.check_constant_choices(space.name, space.suggest)

    def test_the_same_parameters_give_the_same_architecture(self, space: SearchSpace) -> None:
        checks.check_replay(space.name, space.suggest)

    def test_its_architectures_survive_json(self, space: SearchSpace) -> None:
        for trial in checks.random_trials():
            arch = space.suggest(Scope(trial, space.name))
            require(isinstance(arch, dict), f"{space.name}.suggest returned {arch!r}; return a dictionary")
            with doing(f"{space.name}: writing {arch!r} as JSON", "keep to what JSON holds"):
                again = json.loads(json.dumps(arch, allow_nan=False))
            require(
                again == arch,
                f"{space.name}: {arch!r} becomes {again!r} through JSON; use lists for tuples, and strings as keys",
            )

    def test_its_keys_are_the_same_in_every_process(self, space: SearchSpace) -> None:
        """A study that is resumed knows a candidate by its key."""
        try:
            description = described(space)
        except TypeError as error:
            pytest.skip(f"its attributes cannot be given to another process: {error}")
        path = os.pathsep.join(filter(None, sys.path))
        running = [
            subprocess.Popen(
                (sys.executable, "-P", KEYS_FILE),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env={**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": seed},
            )
            for seed in HASH_SEEDS
        ]
        here = keys(space)
        said = [process.communicate(description) for process in running]
        for process, (out, errors) in zip(running, said, strict=True):
            require(
                process.returncode == 0,
                f"{space.name} cannot be used in another process: {errors[-300:]}; define its class at the "
                "top of an installed module",
            )
            require(
                json.loads(out) == here,
                f"{space.name} gives the same answers another key in another process; go through no set in `suggest`, "
                "whose order differs, and use no hash()",
            )

    def test_its_corners_build_train_and_export(self, space: SearchSpace) -> None:
        """All parameters at their lowest, at their highest, and each choice in turn."""
        for number, corner in enumerate(corners(space, self.corners)):
            self.check_corner(space, corner, self.channels[number % len(self.channels)])

    def check_corner(self, space: SearchSpace, corner: Corner, channels: int) -> None:
        what = f"{space.name}.build({corner.arch!r}) for images of {channels} x {self.side} x {self.side}"
        size = space.input_size(corner.arch, self.side)
        with doing(what, "raise InvalidCandidate only for what no trial can sample at a usual size"):
            model = build(space, corner.arch, channels=channels, classes=self.classes, side=self.side)
        images = torch.rand(4, channels, size, size, generator=torch.Generator().manual_seed(0))
        with doing(f"{what}: exporting it", "keep to layers that ONNX has, with the batch dynamic"):
            graph = export_onnx(model, channels=channels, resolution=size)
            check_parity(model.eval(), graph, images)
            outputs = model.train()(images)
        require(
            outputs.shape == (4, self.classes),
            f"{what} gives {tuple(outputs.shape)} of 4 images, {self.classes} classes; end it in num_classes logits",
        )
        with doing(f"{what}: a step of training", "leave every weight that is trained on the way to the logits"):
            F.cross_entropy(outputs, torch.arange(4) % self.classes).backward()
        for name, parameter in model.named_parameters():
            require(
                not parameter.requires_grad or parameter.grad is not None,
                f"{what} has the weight {name}, which no logit depends on; leave it out",
            )

    def test_no_parameter_is_dead(self, space: SearchSpace) -> None:
        """Each changes the network somewhere: in the lowest, the highest or a middle architecture."""
        bases = [walk(space, pick) for pick in (0, -1, 1)]
        alive: dict[str, bool] = {}
        for base in bases:
            for name, value in base.trial.params.items():
                others = [o for o in base.trial.options[name] if o != value]
                alive[name] = alive.get(name, False) or any(self.differs(space, base, name, o) for o in others)
        dead = [name for name, lives in alive.items() if not lives]
        require(
            not dead,
            f"{space.name} samples {', '.join(dead)}, and builds the same network whatever the value is; use the "
            "parameter in `build`, or do not sample it (or only where it has an effect)",
        )

    def differs(self, space: SearchSpace, base: Corner, name: str, value: object) -> bool:
        """Whether another value of one parameter gives another network; one that cannot be built is another."""
        pick = base.trial.pick
        changed = walk(space, pick, {**base.trial.params, name: value})
        try:
            return differ(
                space, base.arch, changed.arch, channels=self.channels[0], classes=self.classes, side=self.side
            )
        except InvalidCandidate:
            return True

    def test_building_is_repeatable(self, space: SearchSpace) -> None:
        """The same seed gives the same weights, and what is given stays as it is."""
        arch = walk(space, 1).arch
        given, states = copy.deepcopy(arch), []
        size = space.input_size(arch, self.side)
        for ambient in (1, 2):
            checks.disturb(ambient)
            torch.manual_seed(0)  # as the engine does
            model = space.build(given, in_channels=self.channels[0], num_classes=self.classes, resolution=size)
            require(given == arch, f"{space.name}.build changed its parameters to {given!r}; work on a copy of them")
            states.append(copy.deepcopy(model).state_dict())
        for name, value in states[0].items():
            require(
                torch.equal(value, states[1][name]),
                f"{space.name}.build gave {name} other weights for the same seed; draw them from torch's generator, "
                "which the engine seeds, and not from numpy's or Python's",
            )

    def test_a_single_pixel_is_refused_in_words(self, space: SearchSpace) -> None:
        """Images that are too small for a network cost that candidate alone."""
        arch = walk(space, 0).arch
        what = f"{space.name}.build for images of one pixel"
        try:
            model = space.build(copy.deepcopy(arch), in_channels=1, num_classes=self.classes, resolution=1)
            with torch.no_grad():
                model.eval()(torch.zeros(2, 1, 1, 1))
        except InvalidCandidate as error:
            require("1" in str(error), f"{what} is refused with {str(error)!r}; name the resolution and what it needs")
        except Exception as error:
            reason = f"{what} raised {type(error).__name__}: {error}; raise InvalidCandidate with the size it needs"
            raise pytest.fail.Exception(reason, pytrace=True) from error

    def test_what_it_offers_more_builds(self, space: SearchSpace) -> None:
        """The largest network, and the ends of the supernet."""
        offered = [space.largest()]
        supernet = space.supernet()
        if supernet is not None:
            offered += [dict(supernet.largest), dict(supernet.smallest), *map(dict, supernet.whole)]
        for arch in offered:
            if arch is not None:
                with doing(f"{space.name}: building {arch!r}", "return parameters such as `suggest` does"):
                    build(space, arch, channels=self.channels[0], classes=self.classes, side=self.side)
