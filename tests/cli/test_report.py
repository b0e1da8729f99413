"""`nas-edge report`: its formats, where it writes, and what it says."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from nas_edge.cli import main

from ..report.made import made_study


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("study") / "made"
    made_study(folder)
    return str(folder)


def test_the_page_is_written_into_the_folder_of_the_study(study: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", study]) == 0
    path = Path(study) / "report.html"
    assert capsys.readouterr().out == f"wrote {path}\n"
    assert path.read_text().startswith("<!DOCTYPE html>")
    assert not path.with_name("report.html.part").exists()


@pytest.mark.parametrize(
    ("arguments", "name", "begins"),
    [
        (["--format", "md"], None, "# Networks of mobilenet for pets on Example CPU"),
        (["--format", "json"], None, "{"),
        ([], "here.md", "# Networks"),
        ([], "here.json", "{"),
        ([], "here.txt", "<!DOCTYPE html>"),
        (["--format", "md"], "here.html", "# Networks"),
    ],
)
def test_formats(study: str, tmp_path: Path, arguments: list[str], name: str | None, begins: str) -> None:
    out = tmp_path / "deep" / name if name else None
    assert main(["report", study, *arguments, *(["-o", str(out)] if out else [])]) == 0
    path = out or Path(study) / f"report.{arguments[1]}"
    assert path.read_text().startswith(begins)


def test_json_is_the_data_and_writes_only_what_is_asked_for(
    study: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (Path(study) / "report.html").unlink(missing_ok=True)
    assert main(["report", study, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert not (Path(study) / "report.html").exists()
    assert {"study", "findings", "front", "points", "waterfalls", "hypervolume", "importance", "facts"} <= said.keys()
    assert said["winner"] == said["front"][0]["number"]
    out = tmp_path / "report.json"
    assert main(["report", study, "-o", str(out), "--json"]) == 0
    stored = json.loads(out.read_text())
    assert {**stored, "made": ""} == {**json.loads(capsys.readouterr().out), "made": ""}


def test_markdown_and_data_need_no_drawing(study: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    monkeypatch.setitem(sys.modules, "jinja2", None)
    assert main(["report", study, "--format", "md"]) == 0
    assert main(["report", study, "--format", "json"]) == 0


@pytest.mark.parametrize("arguments", [[], ["--format", "md", "--pictures", "here"]])
def test_without_the_extra_one_line_says_what_to_install(
    study: str,
    arguments: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    assert main(["report", study, *arguments]) == 2
    assert "pip install 'nas-edge[report]'" in capsys.readouterr().err


def test_a_place_that_cannot_be_written_is_named(
    study: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert main(["report", study, "--format", "md", "-o", str(tmp_path / "file" / "report.md")]) == 2
    said = capsys.readouterr().err
    assert str(tmp_path / "file") in said and "choose another place" in said
