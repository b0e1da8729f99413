"""Each broken plugin is caught by the check that is meant for it, and by no other."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from pathlib import Path

import pytest

from nas_edge.testing.running import CheckResult, in_words, run_checks

FILES = sorted((Path(__file__).parent / "broken").glob("*.py"))
BROKEN = [path.stem for path in FILES]
# Checks that take next to nothing: in the short tests each plugin runs them beside the one that is meant for it.
QUICK = {
    "test_it_declares_what_the_engine_asks",
    "test_its_config_is_frozen",
    "test_its_configs_survive_json",
    "test_its_choices_are_the_same_in_every_trial",
    "test_an_unknown_field_is_refused",
    "test_a_value_of_another_type_is_refused",
    "test_its_validator_gives_a_reason_or_none",
    "test_it_predicts_for_no_device_of_others",
    "test_its_fingerprint_is_json",
    "test_it_makes_a_sampler",
}
LEFT_OUT = ("inverted_residual]", "self_attention]", "distill]")


def meant(stem: str) -> str | None:
    """The check that must catch it; None for a plugin without a defect."""
    found: str | None = importlib.import_module(stem).CAUGHT_BY
    return found


def expected(stem: str) -> set[str]:
    """That check, and those that cannot but meet the same defect."""
    also = getattr(importlib.import_module(stem), "ALSO_BY", ())
    return {in_words(name) for name in (meant(stem), *also) if name}


def failed(results: Iterable[CheckResult], stem: str) -> dict[str, str]:
    """The checks that a plugin fails, whatever the case, and what they say."""
    return {r.check.split(" [")[0]: r.message for r in results if r.file == stem and r.outcome == "failed"}


def wanted(stem: str, name: str) -> bool:
    """The check that is meant for it, on few cases, and the quick ones."""
    check, _, case = name.partition("[")
    return check in QUICK or (check == meant(stem) and case not in LEFT_OUT)


@pytest.fixture(scope="module")
def results() -> list[CheckResult]:
    """What the kit says of all of them, in one run."""
    return run_checks(FILES, wanted=wanted)


def test_there_are_many_kinds_of_them() -> None:
    assert sum(meant(stem) is not None for stem in BROKEN) >= 50
    assert len({meant(stem) for stem in BROKEN}) >= 30


@pytest.mark.parametrize("stem", BROKEN)
def test_it_is_caught_by_the_check_that_is_meant_for_it(stem: str, results: list[CheckResult]) -> None:
    found = failed(results, stem)
    check = meant(stem)
    assert (in_words(check) in found) if check else not found
    assert found.keys() <= expected(stem), found
    assert any(r.file == stem and r.outcome == "passed" for r in results) or len(expected(stem)) > 3
    for message in found.values():
        assert "; " in message or "\n" in message, message  # what is wrong, and how to mend it


@pytest.mark.long
@pytest.mark.parametrize("path", FILES, ids=BROKEN)
def test_no_other_check_minds(path: Path) -> None:
    found = failed(run_checks([path]), path.stem)
    assert found.keys() <= expected(path.stem), found
