"""What all checks are written with: a message for what is wrong, and a watch on what a plugin must leave alone."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import optuna
import pytest
import torch

from nas_edge.contracts import Scope
from nas_edge.plugins import NAME

RANDOM_TRIALS = 50
THREADS, UNUSUAL = 2, 987654321  # what a plugin under watch finds: not what it would set by chance
# What a plugin must leave as it found it, and what to do instead.
WORLD = {
    "torch's random state": "draw within `with torch.random.fork_rng(devices=[]):`, as making a layer does, "
    "or from a torch.Generator of your own",
    "numpy's random state": "draw from np.random.default_rng(context.seed)",
    "Python's random state": "draw from random.Random(context.seed)",
    "the number of threads": "leave torch.set_num_threads alone",
    "the gradient mode": "use `with torch.no_grad():`, which ends with its block",
    "the default dtype": "give dtype= to the tensors that need another",
}


def require(condition: object, message: str) -> None:
    """Fail the check with this message alone: no lines of the kit's own code."""
    if not condition:
        pytest.fail(message, pytrace=False)


@contextmanager
def doing(what: str, remedy: str) -> Iterator[None]:
    """Fail the check where the plugin's code raises an error, which is shown with its traceback."""
    try:
        yield
    except Exception as error:
        reason = f"{what} raised {type(error).__name__}: {error}; {remedy}"
        raise pytest.fail.Exception(reason, pytrace=True) from error


def world() -> dict[str, Any]:
    """The state of this process that `WORLD` names."""
    numpy_state: Any = np.random.get_state()
    found = (
        torch.get_rng_state().tolist(),
        (numpy_state[0], numpy_state[1].tolist(), *numpy_state[2:]),
        random.getstate(),
        torch.get_num_threads(),
        torch.is_grad_enabled(),
        torch.get_default_dtype(),
    )
    return dict(zip(WORLD, found, strict=True))


@contextmanager
def restored() -> Iterator[None]:
    """Whatever the code within does to the world, afterwards it is as before."""
    rng, numpy_state, python = torch.get_rng_state(), np.random.get_state(), random.getstate()
    threads, grad, dtype = torch.get_num_threads(), torch.is_grad_enabled(), torch.get_default_dtype()
    try:
        yield
    finally:
        torch.set_rng_state(rng)
        np.random.set_state(numpy_state)
        random.setstate(python)
        torch.set_num_threads(threads)
        torch.set_grad_enabled(grad)
        torch.set_default_dtype(dtype)


class OwnWorld:
    """Test classes whose checks leave each other alone: what a plugin changes in the process ends with the check."""

    @pytest.fixture(autouse=True)
    def own_world(self) -> Iterator[None]:
        with restored():
            yield


@contextmanager
def watched(what: str, *, grad: bool = True) -> Iterator[None]:
    """Fail the check where the code within leaves the world another one than it found."""
    with restored():
        torch.set_num_threads(THREADS)
        torch.set_grad_enabled(grad)
        disturb(UNUSUAL)
        before = world()
        yield
        after = world()
    for name, remedy in WORLD.items():
        require(after[name] == before[name], f"{what} changed {name}; {remedy}")


def disturb(seed: int) -> None:
    """Give every global random generator another state, as other code in a process would."""
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


def check_name(kind: str, name: object, version: object) -> None:
    """A name and a version that can be registered."""
    require(
        isinstance(name, str) and NAME.fullmatch(name),
        f"{kind} has the name {name!r}; give the class a `name` of letters, digits, underscores and hyphens",
    )
    require(
        isinstance(version, int) and not isinstance(version, bool) and version >= 1,
        f"{kind} {name!r} has the version {version!r}; give the class a whole number of at least 1, and raise it "
        "when the same parameters would give another result",
    )


def random_trials(count: int = RANDOM_TRIALS) -> list[optuna.Trial]:
    """Trials that draw at random, each in a study of its own: Optuna refuses within one what is to be found here."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    seeds = range(count)
    return [optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed)).ask() for seed in seeds]


def check_own_parameters(owner: str, suggest: Any) -> None:
    """Every parameter that is sampled stands under the owner's name."""
    for trial in random_trials():
        suggest(Scope(trial, owner))
        for name in trial.params:
            require(
                name.startswith(f"{owner}.") and name != f"{owner}.enabled",
                f"{owner}.suggest sampled the parameter {name!r}, which is not its own; sample with the scope that it "
                f"is given, scope.suggest_float(...), under any name but 'enabled'",
            )


def check_constant_choices(owner: str, suggest: Any) -> None:
    """A categorical parameter has the same choices, in the same order, in every trial."""
    seen: dict[str, Any] = {}
    for trial in random_trials():
        suggest(Scope(trial, owner))
        for name, found in trial.distributions.items():
            first = seen.setdefault(name, found)
            both = isinstance(first, optuna.distributions.CategoricalDistribution), type(found) is type(first)
            require(both[1], f"{name} is of another kind in another trial: {first} and {found}; name one of them anew")
            if both[0]:
                require(
                    found == first,
                    f"{name} has other choices in another trial: {first} and {found}; give the same list always, and "
                    "raise InvalidCandidate for what does not go together",
                )


def check_replay(owner: str, suggest: Any) -> None:
    """The same answers give the same result: all that is chosen is chosen with the scope."""
    for trial in random_trials():
        first = suggest(Scope(trial, owner))
        again = suggest(Scope(optuna.trial.FixedTrial(dict(trial.params)), owner))
        require(
            again == first,
            f"{owner}.suggest gave {first!r}, and {again!r} for the same parameters {trial.params!r}; decide nothing "
            "at random in it: sample what is to be chosen with the scope",
        )
