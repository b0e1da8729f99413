"""Runs the kit and says what came of each check."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from nas_edge.errors import NasEdgeError
from nas_edge.plugins import PluginInfo, load_plugins

# Each kind of thing that a plugin registers: its test class, and the fixture that gives the thing.
KINDS = {
    "technique": ("TechniqueTests", "technique"),
    "search space": ("SearchSpaceTests", "space"),
    "target": ("TargetTests", "target"),
    "sampler": ("SamplerTests", "make_sampler"),
}
# Nothing of pytest's own on the terminal; where a file cannot be collected, the checks of the others are still run.
OPTIONS = ["-p", "no:terminal", "-p", "no:cacheprovider", "-p", "no:faulthandler", "--capture=no", "-c", os.devnull]
OPTIONS += ["--noconftest", "--continue-on-collection-errors"]
HEAD = """\
from nas_edge.testing import PluginTests, SamplerTests, SearchSpaceTests, TargetTests, TechniqueTests
from nas_edge.testing.running import plugin, registered
"""


@dataclass(frozen=True)
class CheckResult:
    """What came of one check: `outcome` is "passed", "failed" or "skipped"; the message says why it did not pass."""

    file: str
    subject: str
    check: str
    outcome: str
    message: str
    seconds: float


class Watcher:
    """A pytest plugin that keeps the results, and leaves out the checks that are not wanted."""

    def __init__(self, wanted: Callable[[str, str], bool], told: Callable[[CheckResult], None]) -> None:
        self.wanted = wanted
        self.told = told
        self.results: list[CheckResult] = []

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [item for item in items if self.wanted(item.path.stem, item.name)]

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._keep(report.nodeid, "", "its checks can be collected", "failed", str(report.longrepr), 0.0)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
        report: pytest.TestReport = yield
        if report.when != "call" and report.passed:
            return report
        message = said(call.excinfo.value) if call.excinfo else ""
        cls = getattr(item, "cls", None)
        subject = getattr(cls, "subject", getattr(cls, "__name__", ""))
        self._keep(item.path.stem, subject, in_words(item.name), report.outcome, message, report.duration)
        return report

    def _keep(self, *values: Any) -> None:
        self.results.append(CheckResult(*values))
        self.told(self.results[-1])


def said(error: BaseException) -> str:
    """The message of a check; of any other error also where it was raised."""
    if isinstance(error, pytest.fail.Exception | pytest.skip.Exception):
        return str(error.msg)
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    where = f" ({Path(last.tb_frame.f_code.co_filename).name}:{last.tb_lineno})" if last else ""
    return f"{type(error).__name__}: {error}{where}"


def in_words(name: str) -> str:
    """`it keeps the shapes [plain]` of `test_it_keeps_the_shapes[plain]`."""
    check, bracket, case = name.removeprefix("test_").partition("[")
    return check.replace("_", " ") + (f" [{case}" if bracket else "")


def run_checks(
    files: Sequence[Path],
    *,
    wanted: Callable[[str, str], bool] = lambda file, name: True,
    told: Callable[[CheckResult], None] = lambda result: None,
) -> list[CheckResult]:
    """Run the test files with pytest in this process, apart from any settings and plugins of pytest around it.

    `wanted` is asked for each check by its file's stem and its name, and `told` hears of each result as it comes.
    Raises `KeyboardInterrupt` where the run was interrupted, and `NasEdgeError` where pytest came to no end of it.
    """
    watcher = Watcher(wanted, told)
    kept = {name: os.environ.pop(name, None) for name in ("PYTEST_ADDOPTS", "PYTEST_DISABLE_PLUGIN_AUTOLOAD")}
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    try:
        ended = pytest.main([*OPTIONS, *map(str, files)], plugins=[watcher])
    finally:
        for name, value in kept.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
    if ended == pytest.ExitCode.INTERRUPTED:
        raise KeyboardInterrupt
    if ended not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        how = ended.name if isinstance(ended, pytest.ExitCode) else f"exit status {ended}"
        raise NasEdgeError(
            f"pytest {pytest.__version__} ended with {how} after {len(watcher.results)} checks, so nothing is known of "
            "the others; its own lines above say why"
        )
    return watcher.results


def check_installed(info: PluginInfo, told: Callable[[CheckResult], None] = lambda result: None) -> list[CheckResult]:
    """Run the kit on an installed plugin and all that it registers."""
    owned = [what for what, owner in load_plugins().owners.items() if owner == info and what[0] in KINDS]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"test_{Path(folder).name}.py"  # another name each time: Python keeps modules by theirs
        path.write_text(HEAD + "".join(class_for(kind, name) for kind, name in owned) + plugin_class(info.name))
        return run_checks([path], told=told)


def class_for(kind: str, name: str) -> str:
    """A test file's class for one thing that is registered, as its author would write it."""
    base, fixture = KINDS[kind]
    return written(f"{kind} {name}", base, f"{fixture} = registered({kind!r}, {name!r})")


def plugin_class(name: str) -> str:
    return written(f"plugin {name}", "PluginTests", f"plugin = plugin({name!r})")


def written(subject: str, base: str, fixture: str) -> str:
    name = re.sub(r"[^A-Za-z0-9]", "_", subject)
    return f"\n\nclass Test_{name}({base}):\n    subject = {subject!r}\n    {fixture}\n"


def registered(kind: str, name: str) -> Any:
    """A fixture of what is registered under a name; a target is made of its bare scheme."""

    @pytest.fixture
    def found(self: object) -> Any:
        value = load_plugins().find(kind, name)
        return value(name) if kind == "target" else value

    return found


def plugin(name: str) -> Any:
    """A fixture of an installed plugin."""

    @pytest.fixture
    def found(self: object) -> Any:
        return load_plugins().hooks.get_plugin(name)

    return found
