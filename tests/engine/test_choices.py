"""Decisions fixed by name: in every trial, within what the owner can decide, and part of what a study is."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from nas_edge import InvalidCandidate, Scope, SearchSpace, StudyMismatch, Technique, UserError
from nas_edge.cli import main
from nas_edge.config import make_config
from nas_edge.engine.calibration import any_candidates
from nas_edge.engine.candidates import default_techniques
from nas_edge.engine.checking import check_choices
from nas_edge.engine.choices import Choices
from nas_edge.engine.compress import compress_config
from nas_edge.engine.sample import RandomTrial, suggest_config, suggest_spec
from nas_edge.plugins import Registry

from ..studies import search, study_file, tiny_config, tiny_values


@dataclass(frozen=True)
class Config:
    """`limit` is a matter of the mode "hard" alone."""

    mode: str = "soft"
    strength: float = 0.5
    limit: int = 4
    hidden: bool = False

    def __post_init__(self) -> None:
        if self.mode not in ("soft", "hard", "odd"):
            raise InvalidCandidate(f"squeeze: mode={self.mode!r} must be one of soft, hard, odd; use 'soft'")
        if self.mode == "odd" and self.limit % 2 == 0:
            raise InvalidCandidate(f"squeeze: limit={self.limit!r} must be odd in this mode; try 3")


class Squeeze(Technique):
    name = "squeeze"
    config_type = Config

    def suggest(self, scope: Scope) -> Config:
        mode = scope.suggest_categorical("mode", ["soft", "hard"])
        limit = scope.suggest_int("limit", 1, 8) if mode == "hard" else 4
        return Config(mode, scope.suggest_float("strength", 0.1, 0.9), limit)


class Plain(SearchSpace):
    name = "plain"

    def suggest(self, scope: Scope) -> dict[str, Any]:
        params: dict[str, Any] = {"width": scope.suggest_int("width", 8, 64, step=8)}
        params["kind"] = scope.suggest_categorical("kind", ["flat", "tall"])
        if params["kind"] == "tall":
            params["height"] = scope.within("tower").suggest_float("height", 0.5, 2.0)
        return params


def drawn(values: dict[str, Any], count: int = 60) -> list[dict[str, Any]]:
    """Params and config of random candidates in which the technique is on."""
    choices = Choices.of({**values, "squeeze.enabled": True})
    specs = [suggest_spec(RandomTrial(i), Plain(), [Squeeze()], choices) for i in range(count)]
    return [{**spec.arch.params, **spec.steps[0].config} for spec in specs]


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("squeeze.strength", "strength", 0.3),
        ("squeeze.strength", "strength", 0.95),  # the config takes more than what is sampled
        ("squeeze.mode", "mode", "hard"),
        ("squeeze.hidden", "hidden", True),  # never sampled
        ("plain.width", "width", 24),
        ("plain.kind", "kind", "flat"),
    ],
)
def test_a_fixed_choice_holds_in_every_candidate(name: str, field: str, value: Any) -> None:
    others = [f for f in ("strength", "width") if f != field]
    found = drawn({name: value})
    assert {d[field] for d in found} == {value}
    assert all(len({d[f] for d in found}) > 3 for f in others)


def test_what_depends_on_a_fixed_choice_follows_it() -> None:
    assert {d["limit"] for d in drawn({"squeeze.mode": "soft"})} == {4}
    assert {d["limit"] for d in drawn({"squeeze.mode": "hard"})} == set(range(1, 9))
    assert all("height" in d for d in drawn({"plain.kind": "tall"}))
    assert {d["height"] for d in drawn({"plain.kind": "tall", "plain.tower.height": 1})} == {1.0}


def test_several_values_are_searched_among() -> None:
    counts = Counter(d["strength"] for d in drawn({"squeeze.strength": [0.2, 0.4, 0.95]}, 300))
    assert set(counts) == {0.2, 0.4, 0.95} and min(counts.values()) > 60
    study = optuna.create_study()
    trial = study.ask()
    choices = Choices.of({"squeeze.enabled": True, "squeeze.hidden": [True, False], "plain.width": 16})
    spec = suggest_spec(trial, Plain(), [Squeeze()], choices)
    assert trial.distributions["squeeze.hidden"] == optuna.distributions.CategoricalDistribution([True, False])
    assert spec.steps[0].config["hidden"] == trial.params["squeeze.hidden"]
    assert "plain.width" not in trial.params and "squeeze.enabled" not in trial.params


def test_a_technique_can_be_fixed_off() -> None:
    choices = Choices.of({"squeeze.enabled": False})
    assert all(not suggest_spec(RandomTrial(i), Plain(), [Squeeze()], choices).steps for i in range(20))


def test_a_value_that_only_fits_some_draws_is_taken() -> None:
    check_choices(Choices.of({"squeeze.mode": "odd", "squeeze.limit": [3, 5]}), Plain(), [Squeeze()])
    config = suggest_config(RandomTrial(0), Squeeze(), Choices.of({"squeeze.mode": "odd", "squeeze.limit": 3}))
    assert (config["mode"], config["limit"]) == ("odd", 3)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"squeeze.mod": "soft"}, "unknown choice 'squeeze.mod'; did you mean 'squeeze.mode'?"),
        (
            {"squeeze.qqqqqqqqqqqqqqqqqqqqqqqq": 1},
            "known: squeeze.enabled, squeeze.hidden, squeeze.limit, squeeze.mode, squeeze.strength",
        ),
        ({"squeze.mode": "soft"}, "unknown choice 'squeze.mode'"),
        ({"mode": "soft"}, "unknown choice 'mode'"),
        ({"squeze.limit": 3}, "unknown choice 'squeze.limit'; did you mean 'squeeze.limit'?"),
        ({"squeeze": 0.3}, "set squeeze is no decision; name one of squeeze.enabled, squeeze.mode, squeeze.str"),
        ({"other.mode": "soft"}, "set other.mode: 'other' is not searched over; add it to --techniques"),
        ({"plain.widht": 8}, "unknown choice 'plain.widht'; did you mean 'plain.width'?"),
        ({"plain.kind": "flat", "plain.tower.height": 1.0}, "unknown choice 'plain.tower.height'"),
        ({"plain.width": 20}, "set plain.width: 20 will not do; give 8 to 64, step 8"),
        ({"plain.width": [16, 72]}, "set plain.width: 72 will not do"),
        ({"plain.width": "wide"}, "set plain.width: 'wide' will not do"),
        ({"plain.width": True}, "set plain.width: True will not do"),
        ({"plain.kind": "round"}, "set plain.kind: 'round' will not do; give flat | tall"),
        ({"squeeze.enabled": 1}, "set squeeze.enabled: 1 will not do; give true or false"),
        ({"squeeze.mode": ["soft", "mad"]}, "'mad' will not do: squeeze: mode='mad' must be one of soft, hard, odd"),
        (
            {"squeeze.mode": "odd", "squeeze.limit": 2},
            "set squeeze.limit: 2 will not do: squeeze: limit=2 must be odd in this mode; try 3",
        ),
    ],
)
def test_what_nothing_decides_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        check_choices(Choices.of(values), Plain(), [Squeeze()], ["squeeze", "other"])
    assert message in str(caught.value)


class First(Squeeze):
    name = "first"
    exclusive = frozenset({"precision"})

    def structure(self, model: Any, config: Any, context: Any) -> Any:
        return model


class Second(Squeeze):
    name = "second"
    exclusive = frozenset({"precision"})


class Third(Squeeze):
    name = "third"
    exclusive = frozenset({"precision", "colour"})


def test_no_candidate_has_two_techniques_that_decide_the_same() -> None:
    techniques = [First(), Second(), Third()]
    specs = [suggest_spec(RandomTrial(i), Plain(), techniques) for i in range(400)]
    assert max(len(spec.steps) for spec in specs) == 1
    shares = Counter(spec.steps[0].technique if spec.steps else "none" for spec in specs)
    assert shares["second"] / 400 == pytest.approx(1 / 2, abs=0.08)  # those that act in training come last
    assert shares["third"] / 400 == pytest.approx(1 / 4, abs=0.07)
    assert shares["first"] / 400 == pytest.approx(1 / 8, abs=0.06)
    on = Choices.of({"first.enabled": True})
    assert all(
        [s.technique for s in suggest_spec(RandomTrial(i), Plain(), techniques, on).steps] == ["first"]
        for i in range(20)
    )


def test_two_that_decide_the_same_cannot_both_be_fixed_on() -> None:
    both = Choices.of({"first.enabled": True, "third.enabled": True})
    with pytest.raises(UserError, match="techniques 'first' and 'third' both decide the precision"):
        check_choices(both, Plain(), [First(), Second(), Third()])


def test_what_is_not_by_default_must_be_named(tiny: Registry) -> None:
    class Rare(Squeeze):
        name = "rare"
        by_default = False

    plain = make_config(None, {})
    small = compress_config("torchvision:resnet18", {"min_size_reduction": 80.0})
    names = default_techniques(plain, tiny)
    tiny.techniques["rare"] = Rare()
    try:
        assert default_techniques(plain, tiny) == names and "prune" in names
        assert "weight_codes" not in names and default_techniques(small, tiny) == sorted([*names, "weight_codes"])
        given = any_candidates(make_config(None, {"space": "tiny", "target": "bench", "techniques": ["rare"]}), tiny)
        assert [t.name for t in given.techniques] == ["rare"]
    finally:
        del tiny.techniques["rare"]


def test_calibration_candidates_honour_the_choices(tiny: Registry) -> None:
    values = {"space": "tiny", "target": "bench", "techniques": [], "set": {"tiny.width": 5, "tiny.features": [9, 11]}}
    made = any_candidates(make_config(None, values), tiny)
    shapes: set[tuple[int, ...]] = set()
    for index in range(6):
        graph = made(index).graph
        kernels = {w.name: w.dims[0] for w in graph.initializer}
        shapes.add(tuple(kernels[node.input[1]] for node in graph.node if node.op_type == "Conv"))
    assert shapes == {(5, 9), (5, 11)}
    free = replace(made, config=make_config(None, {**values, "set": {}}))
    assert made.domain == free.domain + "/tiny.features=[9, 11]/tiny.width=5"


def test_a_domain_fits_its_column(tiny: Registry) -> None:
    values = {"space": "tiny", "target": "bench", "techniques": ["prune"], "set": {"prune.enabled": True}}
    candidates = any_candidates(make_config(None, values), tiny)
    long = {f"prune.{'x' * 50}{i}": i for i in range(9)}
    one, other = (
        replace(candidates, config=candidates.config.model_copy(update={"set": {**long, "prune.ratio": r}})).domain
        for r in (0.1, 0.2)
    )
    assert len(one) == len(other) == 200 and one != other


def test_a_study_is_made_with_its_choices(tiny: Registry, tmp_path: Path) -> None:
    chosen = {"tiny.kernel": 5, "quantize.enabled": True, "quantize.ranges": "percentile"}
    config = tiny_config(tmp_path, techniques=["quantize"], set=chosen)
    stored = search(config, tiny)
    for trial in stored.trials(TrialState.COMPLETE):
        assert "tiny.kernel" not in trial.params and "quantize.ranges" not in trial.params
        assert trial.user_attrs["techniques"] == "quantize"
    with pytest.raises(StudyMismatch, match=r"was made with other set: .*; tiny\.kernel was 5, is null; give"):
        search(tiny_config(tmp_path, techniques=["quantize"]), tiny)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "tiny.kernel=4"], "set tiny.kernel: 4 will not do; give 3 | 5"),
        (["--set", "tiny.kernel"], "--set is 'tiny.kernel'; write NAME=VALUE"),
        (["--set", "prune.criterion=l1"], "'prune' is not searched over; add it to --techniques"),
        (["--set", "quantize.rangs=minmax"], "unknown choice 'quantize.rangs'; did you mean 'quantize.ranges'?"),
        (["--set", "quantize.ranges=minmax,widest"], "quantize: ranges='widest' must be "),
    ],
)
def test_a_wrong_choice_is_refused_before_anything_is_made(
    arguments: list[str], message: str, tiny: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = study_file(tmp_path / "study.toml", tiny_values(tmp_path / "out", techniques=["quantize"]))
    assert main(["search", file, *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
