"""The checks of a plugin as a whole: its module, and the hooks that it implements."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pluggy
import pytest

from nas_edge import hookspecs, pipeline
from nas_edge.contracts import Context, Target, Technique
from nas_edge.plugins import Registry
from nas_edge.records import Evaluation
from nas_edge.spec import ArchSpec, CandidateSpec, Step
from nas_edge.steps import ActiveStep, call
from nas_edge.testing.checks import doing, require
from nas_edge.testing.given import toy_context
from nas_edge.testing.networks import NETWORKS, made

HEAVY = ("torch", "onnxruntime")
STAGES = ("structure", "objective", "finalize", "graph")
SOMEBODY_ELSE = "somebody_else"


@dataclass(frozen=True)
class NoConfig:
    """Nothing to choose."""


class Foreign(Technique):
    """A technique of somebody else."""

    name = SOMEBODY_ELSE
    config_type = NoConfig


class ForeignTarget(Target):
    """A device of somebody else."""

    name = SOMEBODY_ELSE

    def fingerprint(self) -> dict[str, Any]:
        return {"cpu": SOMEBODY_ELSE, "threads": 1}


class PluginTests:
    """Give the fixture `plugin`: the module (or object) that the entry point names."""

    @pytest.fixture
    def plugin(self) -> Any:
        """The plugin under test: the one thing that a subclass must give."""
        raise NotImplementedError("give the fixture: `@pytest.fixture def plugin(self): return my_module`")

    @pytest.fixture
    def hooks(self, plugin: Any) -> pluggy.PluginManager:
        """A plugin manager with the plugin, and the engine's own implementations behind it."""
        manager = pluggy.PluginManager("nas_edge")
        manager.add_hookspecs(hookspecs)
        manager.register(pipeline)
        with doing("registering the plugin", "give each hook the name and the parameters that docs/plugins.md lists"):
            manager.register(plugin, name="plugin")
            manager.check_pending()
        return manager

    @pytest.fixture
    def context(self, tmp_path: Path) -> Context:
        return toy_context(tmp_path)

    def test_its_import_is_quick(self, plugin: Any) -> None:
        """`nas-edge plugins` and `--help` import every plugin: torch and onnxruntime must wait until needed."""
        module = plugin.__name__ if isinstance(plugin, ModuleType) else type(plugin).__module__
        code = f"import sys, {module}; print(*(n for n in {HEAVY} if n in sys.modules))"
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        done = subprocess.run((sys.executable, "-c", code), capture_output=True, text=True, env=environment)
        require(
            done.returncode == 0,
            f"the module {module} does not import in a process of its own: {done.stderr.strip()[-300:]}; keep it in "
            "an installed package or beside its tests",
        )
        require(
            not done.stdout.split(),
            f"importing {module} imports {done.stdout.strip()}; do that inside the methods that need it (and under "
            "`if TYPE_CHECKING:` for annotations)",
        )

    def test_its_hooks_are_known(self, hooks: pluggy.PluginManager) -> None:
        require(
            implementations(hooks),
            "the plugin implements no hook; mark one with @hookimpl, such as register_techniques(register)",
        )

    def test_it_leaves_the_techniques_of_others_to_them(self, hooks: pluggy.PluginManager, context: Context) -> None:
        """An `apply_technique` that is no wrapper answers for its own technique alone, and with None for the rest."""
        technique, config = Foreign(), NoConfig()
        model = made(NETWORKS["plain"])
        for stage in STAGES:
            for one in implementations(hooks, "apply_technique"):
                if one.wrapper or one.hookwrapper:
                    continue
                answer = answered(one, technique=technique, stage=stage, subject=model, config=config, context=context)
                require(
                    answer is None,
                    f"apply_technique gave {type(answer).__name__} for the technique {SOMEBODY_ELSE!r} at {stage!r}, "
                    "which is not this plugin's; return None for others (or be a wrapper: @hookimpl(wrapper=True))",
                )
            if stage == "graph":
                continue
            with doing(f"apply_technique at {stage!r}", "a wrapper returns what `yield` gave it: return (yield)"):
                result = call(Registry(hooks), ActiveStep(technique, config), stage, model, context)
            require(stage == "objective" or result is model, f"a wrapper of apply_technique changed {stage!r}'s result")

    def test_its_validator_gives_a_reason_or_none(self, hooks: pluggy.PluginManager, context: Context) -> None:
        spec = CandidateSpec(ArchSpec(SOMEBODY_ELSE, 1, {}), (Step(SOMEBODY_ELSE, 1, {}),))
        for one in implementations(hooks, "validate_candidate"):
            with doing("validate_candidate for somebody else's space", "look first whether spec.arch.space is known"):
                answer = answered(one, spec=spec, context=context)
            require(
                answer is None or (isinstance(answer, str) and answer),
                f"validate_candidate returned {answer!r}; return None for a candidate that may pass, and the reason "
                "in words for one that may not",
            )

    def test_it_predicts_for_no_device_of_others(self, hooks: pluggy.PluginManager) -> None:
        import onnx

        for one in implementations(hooks, "predict_latency"):
            with doing("predict_latency for somebody else's target", "look first whether the target is its own"):
                answer = answered(one, graph=onnx.ModelProto(), target=ForeignTarget())
            require(
                answer is None,
                f"predict_latency gave {answer!r} for the target {SOMEBODY_ELSE!r}, which it cannot know; return None "
                "for targets that are not its own",
            )

    def test_its_observers_only_observe(self, hooks: pluggy.PluginManager) -> None:
        """They are told of a candidate and of the end of a study, raise nothing and change no trial."""
        import optuna

        study = optuna.create_study(directions=["maximize", "minimize"])
        study.add_trial(optuna.trial.create_trial(values=[0.9, 1.0]))
        before = [(t.number, t.state, t.values, t.params) for t in study.trials]
        told = evaluation()
        with doing("an observer", "let no error of reporting out of it: a study must not depend on who looks on"):
            for one in implementations(hooks, "candidate_finished"):
                answered(one, study=study, evaluation=told)
            for one in implementations(hooks, "study_finished"):
                answered(one, study=study, evaluations=[told])
        require(
            [(t.number, t.state, t.values, t.params) for t in study.trials] == before,
            "an observer changed the study's trials; read them, and keep what you add elsewhere",
        )


def implementations(hooks: pluggy.PluginManager, hook: str | None = None) -> Sequence[Any]:
    """The plugin's own implementations, of one hook or of all."""
    callers = hooks.get_hookcallers(hooks.get_plugin("plugin")) or []
    chosen = [caller for caller in callers if hook in (None, caller.name)]
    return [one for caller in chosen for one in caller.get_hookimpls() if one.plugin_name == "plugin"]


def answered(one: Any, **arguments: Any) -> Any:
    """Call one implementation with those of the arguments that it asks for."""
    return one.function(*(arguments[name] for name in one.argnames))


def evaluation() -> Evaluation:
    """A record such as observers are told of."""
    return Evaluation("0" * 16, 0.9, 1.0, 0.9, 1.1, "measured", 1000, 100, 1000, "0" * 64, techniques=())
