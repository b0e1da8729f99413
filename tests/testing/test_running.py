"""How a run of the kit ends: with a result for each check, or with an error."""

from __future__ import annotations

from pathlib import Path

import pytest

from nas_edge import NasEdgeError
from nas_edge.plugins import load_plugins
from nas_edge.testing import running
from nas_edge.testing.running import CheckResult, check_installed, run_checks

PASSES = "def test_it_is_fine(): pass\n"


def run(folder: Path, *sources: str) -> list[CheckResult]:
    files = []
    for number, source in enumerate(sources):
        files.append(folder / f"test_{folder.name}_{number}.py")
        files[-1].write_text(source)
    return run_checks(files)


def test_each_check_has_a_result(tmp_path: Path) -> None:
    skips = "import pytest\ndef test_it_is_skipped(): pytest.skip('not here')\n"
    found = run(tmp_path, PASSES, "def test_it_fails(): raise OSError('no disk')\n", skips)
    assert [(r.check, r.outcome, r.message) for r in found] == [
        ("it is fine", "passed", ""),
        ("it fails", "failed", f"OSError: no disk (test_{tmp_path.name}_1.py:1)"),
        ("it is skipped", "skipped", "not here"),
    ]


def test_a_plugin_can_be_checked_again() -> None:
    (data,) = [info for info in load_plugins().plugins if info.name == "data"]
    first, again = ({r.check: r.outcome for r in check_installed(data)} for _ in range(2))
    assert first == again and "failed" not in first.values() and first["its hooks are known"] == "passed"


def test_a_file_that_cannot_be_read_fails_alone(tmp_path: Path) -> None:
    found = run(tmp_path, "import no_such_module_of_anyone\n", PASSES)
    assert [(r.check, r.outcome) for r in found] == [
        ("its checks can be collected", "failed"),
        ("it is fine", "passed"),
    ]
    assert "No module named 'no_such_module_of_anyone'" in found[0].message


def test_an_interrupt_is_none_of_the_results(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, PASSES, "def test_it_takes_long(): raise KeyboardInterrupt\n")


@pytest.mark.parametrize(
    ("source", "ending"),
    [
        ("import pytest\ndef test_it_ends_the_run(): pytest.exit('enough', returncode=7)\n", "with exit status 7"),
        ("nothing_to_check = 1\n", "with NO_TESTS_COLLECTED"),
    ],
)
def test_a_run_that_came_to_no_end_is_no_pass(tmp_path: Path, source: str, ending: str) -> None:
    with pytest.raises(NasEdgeError, match=f"ended {ending} after 0 checks, so nothing is known of the others"):
        run(tmp_path, source)


def test_a_breakdown_of_pytest_is_no_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(running, "in_words", lambda name: 1 / 0)  # within a hook of pytest
    with pytest.raises(NasEdgeError, match="ended with INTERNAL_ERROR after 0 checks"):
        run(tmp_path, PASSES)
    assert "ZeroDivisionError" in capsys.readouterr().err
