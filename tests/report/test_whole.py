"""The report as data: the same wherever the study is stored, of searches and of compressions."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from nas_edge.goals import Goals
from nas_edge.report.markdown import markdown
from nas_edge.report.page import page
from nas_edge.report.whole import StudyReport
from nas_edge.report.writing import plain
from nas_edge.store.database import close_storages
from nas_edge.store.study import StoredStudy

from ..proxies import storage_proxy
from ..servers import DatabaseServer
from .made import DEVICE, hand_made, made_study


def data(report: StudyReport) -> str:
    return json.dumps(plain(replace(report, made="").to_json()), allow_nan=False)


def test_a_report_is_the_same_by_way_of_a_proxy(tmp_path: Path) -> None:
    stored = made_study(tmp_path, baseline="random")
    direct = data(StudyReport.of(stored))
    with storage_proxy(stored.url) as url:
        assert data(StudyReport.of(StoredStudy.load("made", url).at(tmp_path))) == direct
        close_storages()


def test_a_report_is_the_same_on_postgresql(postgresql: DatabaseServer, tmp_path: Path) -> None:
    here = data(StudyReport.of(made_study(tmp_path / "here", baseline="random")))
    there = data(StudyReport.of(made_study(tmp_path / "there", baseline="random", storage=postgresql.database())))
    assert there == here


def test_the_title_says_what_was_searched_where(tmp_path: Path) -> None:
    report = StudyReport.of(made_study(tmp_path))
    assert report.title == f"Networks of mobilenet for pets on {DEVICE['cpu']}"
    assert report.facts["Device"]["instruction sets"] == "avx2, avx512_vnni"
    assert report.facts["Calibration"]["error on them, 90% quantile"] == "8.0%"
    assert report.facts["Data"]["images for validation"] == "400"


def test_the_best_is_the_most_accurate_within_the_limit(tmp_path: Path) -> None:
    report = StudyReport.of(made_study(tmp_path, max_latency_ms=0.1))
    within = [row for row in report.front if row.latency_ms <= 0.1]
    assert report.winner == max(within, key=lambda row: row.accuracy).number
    assert [row.accuracy for row in report.front] == sorted((row.accuracy for row in report.front), reverse=True)


def test_a_compression_is_held_against_its_goals_and_the_given_model(tmp_path: Path) -> None:
    goals = Goals(max_drop=2.0, min_speedup=1.5)
    stored = hand_made(
        tmp_path, [(0.9, 3.0), (0.89, 1.5), (0.8, 1.0)], model="torchvision:resnet18", goals=goals, space="given"
    )
    report = StudyReport.of(stored)
    assert report.title.startswith("torchvision:resnet18 compressed for pets")
    assert report.winner == 1
    assert report.given is not None and (report.given.number, report.given.latency_ms) == (0, 3.0)
    assert report.goals is not None
    assert {g["name"]: g["met"] for g in report.goals["goals"]} == {"accuracy drop": True, "speedup": True}
    text = page(report)
    assert "Goals of the compression" in text and "speedup" in text
    assert report.findings[0].text == (
        "Trial 1 is the one to ship, and meets all goals: 2 times as fast as the model that was given, its file 0% "
        "smaller, for 1.00 points of accuracy on the validation split (none)."
    )
    assert markdown(report).startswith("# torchvision:resnet18 compressed")


def test_markdown_holds_the_numbers_of_the_front_and_the_steps(tmp_path: Path) -> None:
    report = StudyReport.of(made_study(tmp_path))
    lines = markdown(report).splitlines()
    for row in report.front:
        (line,) = [text for text in lines if text.startswith(f"| {row.number} | {row.accuracy:.2%} |")]
        assert f"{row.measured_ms:.3g} ms ({row.measured_low_ms:.3g} to {row.measured_high_ms:.3g})" in line
    undone = [s for w in report.waterfalls for s in w.steps if s.undone]
    assert undone and sum("| undone: " in line for line in lines) == len(undone)


@pytest.mark.parametrize("trials", [0, 1])
def test_reports_of_studies_that_have_hardly_begun(tmp_path: Path, trials: int) -> None:
    stored = hand_made(tmp_path, [(0.5, 1.0)] * trials)
    report = StudyReport.of(stored)
    assert report.winner == (0 if trials else None)
    assert report.importance is None
    assert len(page(report)) > 500_000 and len(markdown(report)) > 500
