"""The samplers that ship, by name.

Each is made anew for a trial and reads what it needs from the stored ones: a resumed search needs no sampler state, and
many workers may use it. Neither Optuna nor scipy is imported before one is made: `nas-edge plugins` stays quick.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

from nas_edge.errors import PluginError
from nas_edge.hookspecs import hookimpl
from nas_edge.plugins import Registry

if TYPE_CHECKING:
    import optuna


def surrogate(seed: int) -> optuna.samplers.BaseSampler:
    """Bayesian optimisation of the hypervolume with Gaussian processes; never proposes what the study holds."""
    from nas_edge.samplers.surrogate import SurrogateSampler

    return SurrogateSampler(seed)


def constrained(seed: int) -> optuna.samplers.BaseSampler:
    """Bayesian optimisation of the accuracy alone, under the constraints of a compression or a latency budget."""
    from nas_edge.samplers.surrogate import ConstrainedSampler

    return ConstrainedSampler(seed)


def evolution(seed: int) -> optuna.samplers.BaseSampler:
    """Aging evolution (Real et al., 2019) with tournaments by non-domination."""
    from nas_edge.samplers.evolution import EvolutionSampler

    return EvolutionSampler(seed)


def reinforce(seed: int) -> optuna.samplers.BaseSampler:
    """A policy for all trade-offs, learned by policy gradient (Williams, 1992)."""
    from nas_edge.samplers.reinforce import ReinforceSampler

    return ReinforceSampler(seed)


def gradient(seed: int) -> optuna.samplers.BaseSampler:
    """Gradient descent on relaxed choices (as Liu et al., 2019), with the cost in the loss."""
    from nas_edge.samplers.gradient import GradientSampler

    return GradientSampler(seed)


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


def gp(seed: int) -> optuna.samplers.BaseSampler:
    """Optuna's Gaussian processes with expected hypervolume improvement, over the parameters that all trials have."""
    import optuna

    return optuna.samplers.GPSampler(seed=seed)


def make_sampler(registry: Registry, name: str, seed: int) -> optuna.samplers.BaseSampler:
    """A registered sampler. Raises `UserError` for an unknown name, `PluginError` where the plugin makes none."""
    import optuna

    made = registry.find("sampler", name)(seed)
    if not isinstance(made, optuna.samplers.BaseSampler):
        raise PluginError(f"sampler {name!r} made {type(made).__name__}, not an Optuna BaseSampler; mend its plugin")
    return made


@hookimpl
def register_samplers(register: Callable[[str, Callable[[int], optuna.samplers.BaseSampler]], None]) -> None:
    register("surrogate", surrogate)
    register("constrained", constrained)
    register("evolution", evolution)
    register("reinforce", reinforce)
    register("gradient", gradient)
    register("random", random)
    register("tpe", tpe)
    register("nsga2", nsga2)
    register("gp", gp)
