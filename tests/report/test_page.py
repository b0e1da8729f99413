"""The page: what is in it, that nothing from outside is taken for HTML, and how large and quick it is."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest

from nas_edge.errors import UserError
from nas_edge.report import words
from nas_edge.report.markdown import markdown
from nas_edge.report.page import embedded, page
from nas_edge.report.whole import StudyReport

from .made import empty_study, made_study

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)></script>&lt; | `x` ]]>\u2028'
PAGE_BYTES, PAGE_S = 5_000_000, 10.0


class Elements(HTMLParser):
    """The elements of a page, with the texts of its scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self.cdata_elem == "script":
            self.scripts[-1] += data

    @classmethod
    def of(cls, text: str) -> Elements:
        read = cls()
        read.feed(text)
        return read

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.found if name == tag]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> StudyReport:
    return StudyReport.of(made_study(tmp_path_factory.mktemp("made"), baseline="random"))


def without_scripts(text: str) -> str:
    return re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)


def test_hostile_names_are_text(tmp_path: Path) -> None:
    stored = made_study(tmp_path, classes=(HOSTILE, "dog"))
    stored.study.set_user_attr("target", {"name": HOSTILE, "fingerprint": "0123456789abcdef"})
    stored.study.set_user_attr("plugins", {HOSTILE: 1})
    trial = stored.front()[0]
    record = stored.tables.finals("made")[trial.number]
    stored.tables.add_final("made", trial.number, {**record, "techniques": HOSTILE})
    report = StudyReport.of(stored)
    assert any(row.techniques == HOSTILE for row in report.front)
    text = page(report)
    read = Elements.of(text)
    assert len(read.attributes("script")) == 3 and not read.attributes("img")
    assert not any(name.startswith("on") for _, attrs in read.found for name in attrs)
    assert "&lt;script&gt;alert(1)" in text and "alert(1)</script>" not in text
    data = json.loads(read.scripts[0])
    assert any(HOSTILE in json.dumps(spec, ensure_ascii=False).replace('\\"', '"') for spec in data.values())
    written = markdown(report)
    assert "<script" not in written and "<img" not in written
    assert all(line.count(" | ") == 6 for line in written.splitlines() if "alert(1)" in line and "%" in line)


def test_nothing_ends_the_script_that_holds_the_data() -> None:
    value = {"a": HOSTILE}
    text = embedded(value)
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text) == value


def test_the_page_loads_nothing_and_runs_its_own_scripts_alone(report: StudyReport) -> None:
    read = Elements.of(page(report))
    (policy,) = [a["content"] for a in read.attributes("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None and policy.startswith("default-src 'none';")
    for script in read.scripts[1:]:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    assert not read.attributes("link") and not read.attributes("iframe")
    assert not any("src" in attrs for _, attrs in read.found)
    addresses = [str(a["href"]) for a in read.attributes("a")]
    assert addresses and all(address.startswith("#") for address in addresses)
    known = {attrs["id"] for _, attrs in read.found if "id" in attrs}
    assert {address[1:] for address in addresses} <= known


def test_every_picture_has_words_and_its_numbers_in_a_table(report: StudyReport) -> None:
    text = page(report)
    read = Elements.of(text)
    drawn = [a for a in read.attributes("div") if "data-chart" in a]
    assert {a["data-chart"] for a in drawn} == {"front", "predicted", "hypervolume", "hypervolume-time", "importance"}
    assert all(a["role"] == "img" and a["aria-label"] for a in drawn)
    plain = without_scripts(text)
    for row in report.front:
        assert words.percent(row.accuracy, 2) in plain and words.ms(row.measured_ms) in plain
    assert report.hypervolume is not None and report.importance is not None
    for moment in report.hypervolume.searches[1].moments:
        assert f">{words.percent(moment.share)}</td>" in plain
    assert "Not known of trial" in plain  # of the layers: there is no picture, but a word


def test_an_empty_study_says_in_words_what_is_missing(tmp_path: Path) -> None:
    text = page(StudyReport.of(empty_study(tmp_path)))
    read = Elements.of(text)
    assert not [a for a in read.attributes("div") if "data-chart" in a]
    for said in ("No candidate stands yet", "no candidate yet whose steps", "No prediction was held", "Too few candid"):
        assert said in text


@pytest.mark.alone
def test_a_thousand_trials_are_one_page_of_the_size_that_is_promised(tmp_path: Path) -> None:
    stored = made_study(tmp_path, 1000, finals=True)
    start = time.perf_counter()
    text = page(StudyReport.of(stored))
    assert time.perf_counter() - start < PAGE_S
    assert len(text.encode()) < PAGE_BYTES
    data = json.loads(Elements.of(text).scripts[0])
    assert len(json.dumps(data["front"])) < 1_000_000


def test_without_its_packages_the_page_says_how_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    with pytest.raises(UserError, match=r"pip install 'nas-edge\[report\]'"):
        page(StudyReport.of(empty_study(tmp_path)))
