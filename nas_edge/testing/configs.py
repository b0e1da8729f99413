"""What holds of a technique's declarations and configs: they need no network."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, ClassVar, get_args, get_type_hints

import pytest

from nas_edge.contracts import Scope, Technique
from nas_edge.errors import InvalidCandidate
from nas_edge.spec import ArchSpec, CandidateSpec, Step
from nas_edge.testing import checks
from nas_edge.testing.checks import doing, require

REMEDY = re.compile(r"; *\w|\b(use|try|give|set|leave|install|choose|turn|remove)\b", re.IGNORECASE)
REFUSE = 'in the config\'s __post_init__ raise InvalidCandidate(f"{technique}: {field}={value!r} must be ...; use ...")'
NO_SUCH_FIELD, NO_SUCH_VALUE = "no_such_field", "no_such_value"


class ConfigTests(checks.OwnWorld):
    """A part of `TechniqueTests`."""

    configs: ClassVar[Sequence[Any]] = ()
    impossible: ClassVar[Sequence[Mapping[str, Any]]] = ()

    @pytest.fixture
    def technique(self) -> Technique:
        """The technique under test: the one thing that a subclass must give."""
        raise NotImplementedError("give the fixture: `@pytest.fixture def technique(self): return MyTechnique()`")

    def tried(self, technique: Technique) -> Sequence[Any]:
        """The configs that the checks try: the author's, or the default one."""
        return self.configs or (self.default(technique),)

    def default(self, technique: Technique) -> Any:
        with doing(
            f"{technique.name}: {technique.config_type.__name__}()",
            "give every field a default, and let the defaults be valid together",
        ):
            return technique.config_type()

    def test_it_declares_what_the_engine_asks(self, technique: Technique) -> None:
        checks.check_name("the technique", getattr(technique, "name", None), technique.version)
        for what in ("after", "exclusive"):
            value = getattr(technique, what)
            require(
                isinstance(value, frozenset) and all(isinstance(name, str) for name in value),
                f"{technique.name}.{what} is {value!r}; make it a frozenset of names: frozenset({{'prune'}})",
            )
        require(
            technique.name not in technique.after,
            f"{technique.name}.after names {technique.name!r} itself, which is a circle; leave it out",
        )
        stages = ("structure", "objective", "finalize", "graph")
        require(
            any(technique.overrides(stage) for stage in stages),
            f"{technique.name} overrides no stage and so does nothing; define one of {', '.join(stages)}",
        )

    def test_its_config_is_frozen(self, technique: Technique) -> None:
        parameters = getattr(technique.config_type, "__dataclass_params__", None)
        require(
            parameters is not None and parameters.frozen,
            f"{technique.name}: {technique.config_type.__name__} can be changed after it was recorded; make it "
            "@dataclass(frozen=True)",
        )

    def test_its_config_is_valid_by_default(self, technique: Technique) -> None:
        self.default(technique)

    def test_its_configs_survive_json(self, technique: Technique) -> None:
        """With the version: what a study stores is what it reads."""
        sampled = [technique.suggest(Scope(trial, technique.name)) for trial in checks.random_trials(10)]
        for config in (*self.tried(technique), *sampled):
            require(
                isinstance(config, technique.config_type),
                f"{technique.name}.suggest returned {config!r}; return a {technique.config_type.__name__}",
            )
            with doing(
                f"{technique.name}: writing {config!r} as JSON and reading it",
                "keep to None, bool, int, float, str and lists and dictionaries of them in its fields, or override "
                "config_to_json and config_from_json",
            ):
                values = technique.config_to_json(config)
                spec = CandidateSpec(ArchSpec("s", 1, {}), (Step(technique.name, technique.version, values),))
                read = CandidateSpec.from_json(json.loads(json.dumps(spec.to_json(), allow_nan=False)))
                again = technique.config_from_json(read.steps[0].config)
            require(
                again == config and read.key == spec.key and read.steps[0].version == technique.version,
                f"{technique.name}: {config!r} becomes {again!r} through JSON, which has no tuples and no keys but "
                "strings; turn them back in config_from_json or in __post_init__",
            )

    def test_it_samples_only_its_own_parameters(self, technique: Technique) -> None:
        checks.check_own_parameters(technique.name, technique.suggest)

    def test_its_choices_are_the_same_in_every_trial(self, technique: Technique) -> None:
        checks.check_constant_choices(technique.name, technique.suggest)

    def test_the_same_parameters_give_the_same_config(self, technique: Technique) -> None:
        checks.check_replay(technique.name, technique.suggest)

    def test_an_unknown_field_is_refused(self, technique: Technique) -> None:
        self.refused(technique, {NO_SUCH_FIELD: 1}, "let config_from_json of the base class read it")

    def test_a_value_of_another_type_is_refused(self, technique: Technique) -> None:
        """Of each field that takes no text: as `--set` would give it, where what was typed is no number."""
        wrong = [{name: NO_SUCH_VALUE} for name in fields_without_text(technique.config_type)]
        if not wrong:
            pytest.skip("each field of its config takes a text; give in `impossible` what must be refused")
        for config in wrong:
            self.refused_in_words(technique, config)

    def test_impossible_configs_are_refused(self, technique: Technique) -> None:
        """Those of `impossible`: only its author knows which."""
        if not self.impossible:
            pytest.skip("none are named; give them in `impossible`, such as ({'ratio': 1.5}, {'bits': 0})")
        for config in self.impossible:
            self.refused_in_words(technique, config)

    def refused_in_words(self, technique: Technique, config: Mapping[str, Any]) -> None:
        """The refusal names the technique, a field, its value, and a remedy."""
        message = self.refused(technique, config, REFUSE)
        require(
            any(repr(value) in message or str(value) in message for value in config.values()),
            f"{technique.name}: the refusal of {dict(config)!r} does not show the value: {message!r}; {REFUSE}",
        )
        require(
            REMEDY.search(message),
            f"{technique.name}: the refusal of {dict(config)!r} gives no remedy: {message!r}; end it with what to "
            "do instead: '...; use 4 or 8'",
        )

    def refused(self, technique: Technique, config: Mapping[str, Any], remedy: str) -> str:
        """The message of the `InvalidCandidate` that a config is refused with, which names technique and field."""
        try:
            made = technique.config_from_json(config)
        except InvalidCandidate as error:
            message = str(error)
        except Exception as error:
            reason = f"{technique.name} refuses {dict(config)!r} with {type(error).__name__}: {error}; {remedy}"
            raise pytest.fail.Exception(reason, pytrace=True) from error
        else:
            pytest.fail(f"{technique.name} takes {dict(config)!r} as {made!r}; {remedy}", pytrace=False)
        require(
            technique.name in message and any(field in message for field in config),
            f"{technique.name}: the refusal of {dict(config)!r} does not name technique and field: {message!r}; "
            f"{remedy}",
        )
        return message


def fields_without_text(config_type: type) -> list[str]:
    """The fields of a dataclass whose annotations have no place for a text of the user's own."""
    try:
        hints = get_type_hints(config_type)
    except Exception:  # names that are there for a type checker only
        return []
    return [field.name for field in fields(config_type) if field.init and not takes_text(hints[field.name])]


def takes_text(hint: Any) -> bool:
    return hint in (str, object, Any) or any(takes_text(part) for part in get_args(hint) if not isinstance(part, str))
