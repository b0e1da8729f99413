"""The samplers that ship: Optuna's own. Each is made anew for a trial, so a resumed search needs no sampler state."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

from nas_edge.errors import PluginError
from nas_edge.hookspecs import hookimpl
from nas_edge.plugins import Registry

if TYPE_CHECKING:
    import optuna


def random(seed: int) -> optuna.samplers.BaseSampler:
    """Independent uniform draws: what every other sampler is compared with."""
    import optuna

    return optuna.samplers.RandomSampler(seed=seed)


def tpe(seed: int) -> optuna.samplers.BaseSampler:
    """Multi-objective tree-structured Parzen estimator (Ozaki et al., 2022), joint over parameters sampled together."""
    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        # The constant liar would read the database again for each group of parameters.
        return optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True, constant_liar=False)


def nsga2(seed: int) -> optuna.samplers.BaseSampler:
    """NSGA-II (Deb et al., 2002), with a population for studies of some dozens to hundreds of trials."""
    import optuna

    return optuna.samplers.NSGAIISampler(seed=seed, population_size=16)


def make_sampler(registry: Registry, name: str, seed: int) -> optuna.samplers.BaseSampler:
    """A registered sampler. Raises `UserError` for an unknown name, `PluginError` where the plugin makes none."""
    import optuna

    made = registry.find("sampler", name)(seed)
    if not isinstance(made, optuna.samplers.BaseSampler):
        raise PluginError(f"sampler {name!r} made {type(made).__name__}, not an Optuna BaseSampler; mend its plugin")
    return made


@hookimpl
def register_samplers(register: Callable[[str, Callable[[int], optuna.samplers.BaseSampler]], None]) -> None:
    register("random", random)
    register("tpe", tpe)
    register("nsga2", nsga2)
