"""The page in a real Chromium: it draws, it answers the pointer, it fits a phone, it loads nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from nas_edge.report.page import page
from nas_edge.report.whole import StudyReport

from ..browser import browser, chromium, console_of, downloads, requests_of
from .made import made_study

__all__ = ["browser", "chromium", "downloads"]  # fixtures

HOSTILE = "<img src=https://example.org/x onerror=alert(1)><script>alert(2)</script>"
CHARTS = 5
OPEN_S = 3.0


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("browser")
    stored = made_study(folder, 1000, baseline="random", classes=(HOSTILE, "dog"))
    trial = stored.front()[0]
    record = stored.tables.finals("made")[trial.number]
    stored.tables.add_final("made", trial.number, {**record, "techniques": HOSTILE})
    path = folder / "report.html"
    path.write_text(page(StudyReport.of(stored)), encoding="utf-8")
    return path


def drawn(browser: webdriver.Chrome) -> int:
    return len(browser.find_elements(By.CSS_SELECTOR, "[data-chart] svg"))


def opened(browser: webdriver.Chrome, path: Path) -> None:
    browser.get(path.as_uri())
    WebDriverWait(browser, 20).until(lambda b: drawn(b) == CHARTS)


@pytest.mark.alone
def test_it_opens_quickly_draws_every_picture_and_asks_nothing(browser: webdriver.Chrome, report: Path) -> None:
    opened(browser, report)
    navigation = browser.execute_script("return performance.getEntriesByType('navigation')[0].toJSON()")
    assert navigation["loadEventEnd"] < 1000 * OPEN_S
    assert console_of(browser) == []
    asked = requests_of(browser)
    assert asked and all(address == report.as_uri() or address.startswith("data:") for address in asked)
    points = browser.find_elements(By.CSS_SELECTOR, "[data-chart=front] .mark-symbol.role-mark path")
    assert len(points) > 600
    for chart in browser.find_elements(By.CSS_SELECTOR, "[data-chart]"):
        assert chart.size["height"] > 150 and chart.size["width"] > 300


def test_a_candidate_is_read_by_pointing_at_it_and_its_name_is_text(browser: webdriver.Chrome, report: Path) -> None:
    opened(browser, report)
    groups = browser.find_elements(By.CSS_SELECTOR, "[data-chart=front] .mark-symbol.role-mark")
    members = [g for g in groups if g.find_elements(By.CSS_SELECTOR, "path[fill='var(--blue)']")]
    points = members[-1].find_elements(By.TAG_NAME, "path")
    said = ""
    for point in points:
        ActionChains(browser).scroll_to_element(point).move_to_element(point).perform()
        said = browser.find_element(By.ID, "vg-tooltip-element").text
        if "alert" in said:
            break
    assert HOSTILE in said
    assert "ms" in said and "measured" in said and "kB" in said and "on validation" in said
    assert console_of(browser) == [] and not browser.find_elements(By.CSS_SELECTOR, "img, iframe")


def test_a_phone_needs_no_scrolling_sideways(browser: webdriver.Chrome, report: Path) -> None:
    size = {"width": 375, "height": 800, "deviceScaleFactor": 2, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        opened(browser, report)
        assert browser.execute_script("return document.documentElement.scrollWidth") == 375
        for chart in browser.find_elements(By.CSS_SELECTOR, "[data-chart] svg"):
            assert chart.size["width"] <= 375
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.parametrize(
    ("scheme", "media", "dark"), [("light", "", False), ("dark", "", True), ("dark", "print", False)]
)
def test_it_is_dark_on_a_dark_screen_and_light_on_paper(
    browser: webdriver.Chrome, report: Path, scheme: str, media: str, dark: bool
) -> None:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})
    try:
        opened(browser, report)
        style = "return getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]"
        paper = browser.execute_script(style, "body", "backgroundColor")
        ink = browser.execute_script(style, "[data-chart=front] svg .role-axis-label text", "fill")
        assert sum(map(int, paper[4:-1].split(","))) < 200 if dark else paper == "rgb(255, 255, 255)"
        assert (sum(map(int, ink[4:-1].split(","))) > 500) == dark
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})


def test_links_open_what_they_lead_to_and_titles_sort(browser: webdriver.Chrome, report: Path) -> None:
    opened(browser, report)
    link = browser.find_elements(By.CSS_SELECTOR, "table.sortable td a")[-1]
    part = browser.find_element(By.ID, str(link.get_attribute("href")).rpartition("#")[2])
    assert part.get_attribute("open") is None
    browser.execute_script("arguments[0].click()", link)
    WebDriverWait(browser, 5).until(lambda _: part.get_attribute("open") is not None)
    title = browser.find_elements(By.CSS_SELECTOR, "table.sortable th button")[1]
    cells = "return [...document.querySelectorAll('table.sortable td:nth-child(2)')].map(c => Number(c.dataset.value))"
    browser.execute_script("arguments[0].click()", title)
    values = browser.execute_script(cells)
    assert values == sorted(values) and len(values) > 3
    browser.execute_script("arguments[0].click()", title)
    assert browser.execute_script(cells) == values[::-1] or sorted(values, reverse=True) == browser.execute_script(
        cells
    )
