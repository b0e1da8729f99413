"""`nas-edge dashboard` as a person uses it: the real process, and its pages in a real browser."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from optuna.trial import TrialState

pytest.importorskip("optuna_dashboard")

from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.expected_conditions import text_to_be_present_in_element as has_text
from selenium.webdriver.support.wait import WebDriverWait

from nas_edge.cli import main
from nas_edge.plugins import Registry
from nas_edge.report.dashboard import HIDDEN
from nas_edge.store.study import StoredStudy

from ..browser import browser, chromium, downloads
from ..dashboards import HOSTILE, watched_study
from ..studies import NAS_EDGE, heed_interrupts, sha256

__all__ = ["browser", "chromium", "downloads"]  # fixtures

WAIT_S = 60
BODY = (By.TAG_NAME, "body")


@dataclass(frozen=True)
class Served:
    """A dashboard that runs: its study, its process, and the address that it said."""

    stored: StoredStudy
    process: subprocess.Popen[str]
    url: str

    @property
    def port(self) -> int:
        return int(self.url.split(":")[2].split("/")[0])


running: list[Served] = []


@pytest.fixture(scope="module")
def ending() -> Iterator[None]:
    """Ends the dashboard of this module as Ctrl-C does."""
    yield
    for served in running:
        served.process.send_signal(signal.SIGINT)
        assert served.process.wait(WAIT_S) == 130
        assert served.process.stderr is not None and served.process.stderr.read() == "interrupted\n"
        served.process.stderr.close()
    running.clear()


@pytest.fixture
def served(ending: None, tiny: Registry, tmp_path_factory: pytest.TempPathFactory) -> Served:
    """Started once for this module."""
    if not running:
        folder = tmp_path_factory.mktemp("runs") / "tiny"
        stored = watched_study(folder, tiny)
        stored.storage.engine.dispose()
        process = subprocess.Popen(
            (*NAS_EDGE, "dashboard", "tiny", "--storage", stored.url, "--port", "0"),
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "NAS_EDGE_LOAD_PLUGINS": ""},
            preexec_fn=heed_interrupts,
        )
        assert process.stderr is not None
        line = process.stderr.readline()
        running.append(Served(stored, process, line.split()[0]))
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/dashboard/studies/1  \(Ctrl-C ends it\)\n", line)
    return running[0]


def page(browser: Chrome, url: str, text: str) -> str:
    """Open a page, wait until it says a text, and return all that it says."""
    browser.get(url)
    WebDriverWait(browser, WAIT_S).until(has_text(BODY, text))
    return browser.find_element(*BODY).text


def trial_page(served: Served, number: int) -> str:
    return f"{served.url}/trials?numbers={number}"


def test_the_front_is_drawn(served: Served, browser: Chrome) -> None:
    shown = page(browser, served.url, "digits")
    assert all(
        word in shown for word in ("Pareto Front", "accuracy", "latency_ms", "Study User Attributes", "Best Trials")
    )
    assert "fingerprint" not in shown and "{" not in shown
    points = "#graph-pareto-front .scatterlayer .point"
    WebDriverWait(browser, WAIT_S).until(lambda driver: driver.find_elements(By.CSS_SELECTOR, points))
    complete = [t for t in served.stored.trials() if t.values]
    assert len(browser.find_elements(By.CSS_SELECTOR, points)) == len(complete)


def test_the_note_of_the_study_links_to_its_trials(served: Served, browser: Chrome) -> None:
    shown = page(browser, f"{served.url}/note", "The best trade-offs")
    assert "Device" in shown and "max_latency_ms = 0.5" in shown
    best = served.stored.front()[0].number
    browser.find_element(By.LINK_TEXT, f"trial {best}").click()
    WebDriverWait(browser, WAIT_S).until(has_text(BODY, "What each step changed"))
    assert browser.current_url == trial_page(served, best)


def test_a_trial_has_its_note_its_picture_and_its_model(served: Served, browser: Chrome, downloads: Path) -> None:
    best = served.stored.front()[0]
    shown = page(browser, trial_page(served, best.number), "What each step changed")
    assert "One of the best trade-offs" in shown and best.user_attrs["latency"] in shown
    assert "Best Trial" in shown and "onnx_sha256" not in shown
    cells = [cell.text.strip() for cell in browser.find_elements(By.CSS_SELECTOR, "table th")]
    assert all(title in cells for title in ("step", "latency", "size", "accuracy"))
    picture = browser.find_element(By.CSS_SELECTOR, "img[alt='What each step changed']")
    WebDriverWait(browser, WAIT_S).until(lambda driver: int(picture.get_attribute("naturalWidth") or 0) > 1200)
    (link,) = browser.find_elements(By.CSS_SELECTOR, "a[download='model.onnx']")
    browser.execute_script("arguments[0].click()", link)
    model = downloads / "model.onnx"
    deadline = time.monotonic() + WAIT_S
    while not model.is_file() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert sha256(model) == best.user_attrs["onnx_sha256"]


def test_what_breaks_a_limit_says_so(served: Served, browser: Chrome) -> None:
    over = next(t.number for t in served.stored.trials() if t.user_attrs.get("key") == "over")
    shown = page(browser, trial_page(served, over), "Breaks a limit")
    assert "limit: latency_ms exceeded by 0.25" in shown


@pytest.mark.parametrize("where", ["/dashboard", "/dashboard/studies/1", "running"])
def test_what_would_be_refused_is_not_offered(served: Served, browser: Chrome, where: str) -> None:
    running = next(t.number for t in served.stored.trials() if t.state is TrialState.RUNNING)
    root = served.url.removesuffix("/dashboard/studies/1")
    page(browser, trial_page(served, running) if where == "running" else root + where, "tiny")
    hidden = {"/dashboard": "AddBox", "/dashboard/studies/1": "UploadFile", "running": "StopCircle"}[where]
    button = (By.CSS_SELECTOR, f"button:has([data-testid={hidden}Icon])")
    WebDriverWait(browser, WAIT_S).until(lambda driver: driver.find_elements(*button))
    icons = ", ".join(f"[data-testid={name}Icon]" for name in HIDDEN)
    assert not [icon for icon in browser.find_elements(By.CSS_SELECTOR, icons) if icon.is_displayed()]


@pytest.mark.parametrize("where", ["/dashboard", "/dashboard/studies/2", "hostile", "rejected"])
def test_no_script_of_a_hostile_name_runs(served: Served, browser: Chrome, where: str) -> None:
    chosen = {t.user_attrs.get("key") or t.state.name: t.number for t in served.stored.trials()}
    trials = {"hostile": chosen["hostile"], "rejected": chosen["PRUNED"]}
    root = served.url.removesuffix("/dashboard/studies/1")
    url = trial_page(served, trials[where]) if where in trials else root + where
    shown = page(browser, url, HOSTILE[0])
    if where == "hostile":
        assert all(text in shown for text in HOSTILE[:2]) and "is as good or better" in shown
    assert browser.execute_script("return window.hurt") is None
    assert not browser.find_elements(By.CSS_SELECTOR, "img[src='x'], img[src*=':9/'], a[href^='javascript:']")


def test_it_listens_on_this_machine_alone(served: Served) -> None:
    connections = psutil.Process(served.process.pid).net_connections()
    listening = [c.laddr.ip for c in connections if c.status == psutil.CONN_LISTEN]
    assert listening == ["127.0.0.1"]


@pytest.mark.parametrize("port", ["taken", "99999"])
def test_a_port_that_cannot_be_had_is_said_in_one_line(
    served: Served, port: str, capsys: pytest.CaptureFixture[str]
) -> None:
    number = str(served.port) if port == "taken" else port
    assert main(["dashboard", "tiny", "--storage", served.stored.url, "--port", number]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: port {number} cannot be used: ") and line.endswith("choose another --port")


def test_without_its_extra_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "optuna_dashboard", None)
    assert main(["dashboard", "anything"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "`pip install 'nas-edge[dashboard]'` installs it" in line
