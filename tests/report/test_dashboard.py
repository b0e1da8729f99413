"""What Optuna Dashboard is given of a study: asked of its interface, without a browser."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

pytest.importorskip("optuna_dashboard")

from nas_edge.engine.recipes import read_recipe
from nas_edge.plugins import Registry
from nas_edge.report import words
from nas_edge.report.charts import waterfall
from nas_edge.report.dashboard import dashboard_app
from nas_edge.report.drawing import LIGHT
from nas_edge.report.notes import BEATEN, NO_OTHER
from nas_edge.report.pictures import png
from nas_edge.report.study_pages import page_of
from nas_edge.store.study import StoredStudy

from ..dashboards import HOSTILE, add, keep, read_recipe_of, watched_study
from ..studies import search, sha256, tiny_config

made: list[StoredStudy] = []


@pytest.fixture
def stored(tiny: Registry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoredStudy]:
    """Made once for this module."""
    if not made:
        made.append(watched_study(tmp_path_factory.mktemp("runs") / "tiny", tiny))
    yield made[0]
    made[0].storage.engine.dispose()


class Client:
    """Asks a dashboard, as a browser on this machine would."""

    def __init__(self, stored: StoredStudy) -> None:
        self.app = dashboard_app(stored)
        self.study_id = stored.study._study_id

    def ask(
        self,
        path: str,
        method: str = "GET",
        body: object = None,
        host: str = "localhost:8080",
        query: str = "",
        kept_since: str = "",
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers, body."""
        content = b"" if body is None else json.dumps(body).encode()
        said: list[Any] = []
        environ = {
            "REQUEST_METHOD": method,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "HTTP_HOST": host,
            **({"HTTP_IF_MODIFIED_SINCE": kept_since} if kept_since else {}),
            "SERVER_NAME": "127.0.0.1",
            "SERVER_PORT": "8080",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "CONTENT_TYPE": "application/json",
            "CONTENT_LENGTH": str(len(content)),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(content),
            "wsgi.errors": sys.stderr,
        }
        answer = self.app(environ, lambda line, headers, error=None: said.extend((line, headers)))
        with_end = b"".join(answer)
        if hasattr(answer, "close"):
            answer.close()
        return int(said[0].split()[0]), dict(said[1]), with_end

    def study(self, query: str = "") -> dict[str, Any]:
        status, _, body = self.ask(f"/api/studies/{self.study_id}", query=query)
        assert status == 200, body
        answer: dict[str, Any] = json.loads(body)
        return answer


def attributes(shown: dict[str, Any]) -> dict[str, str]:
    return {a["key"]: a["value"] for a in shown["user_attrs"]}


def test_the_best_trials_are_those_within_the_limits(stored: StoredStudy) -> None:
    answer = Client(stored).study()
    over = next(t.number for t in stored.trials() if t.user_attrs.get("key") == "over")
    shown = {t["number"]: t for t in answer["trials"]}
    assert shown[over]["constraints"] == [0.25] and shown[over]["values"][0] == 1.0
    assert attributes(shown[over])["limit: latency_ms"] == "exceeded by 0.25"
    assert "**Breaks a limit** of the study: latency_ms" in shown[over]["note"]["body"]
    front = sorted(t.number for t in stored.front())
    assert over not in front and [t["number"] for t in answer["best_trials"]] == front
    assert answer["objective_names"] == ["accuracy", "latency_ms"]


def test_attributes_are_short_words(stored: StoredStudy) -> None:
    answer = Client(stored).study()
    columns = [a["key"] for a in answer["union_user_attrs"]]
    assert columns[:4] == ["techniques", "accuracy", "latency", "size (kB)"]
    for shown in answer["trials"]:
        assert set(attributes(shown)) <= set(columns)
        assert not set(attributes(shown)) & {"key", "worker", "onnx_sha256", "latency_source"}
        assert all(not value.startswith(("{", "[")) and len(value) < 200 for value in attributes(shown).values())
    best = stored.front()[0]
    shown = attributes(next(t for t in answer["trials"] if t["number"] == best.number))
    assert shown["latency"] == best.user_attrs["latency"] and " to " in shown["latency measured at the end"]
    assert shown["size (kB)"] == f"{best.user_attrs['size_bytes'] / 1000:.1f}"
    about = attributes(answer)
    assert about["data set"] == "digits" and about["image"] == "1 x 8 x 8" and about["latency limit"] == "0.5 ms"
    assert "fingerprint" not in about and about["trials"].startswith("4 finished, 1 rejected, 1 running")
    assert all(len(value) < 100 for value in about.values())
    (_, _, listed) = Client(stored).ask("/api/studies")
    ours, other = json.loads(listed)["study_summaries"]
    assert attributes(ours) == about and attributes(other) == {"a": HOSTILE[1]}


def test_a_note_tells_that_another_is_better_by_now(tiny: Registry, tmp_path: Path) -> None:
    stored = search(tiny_config(tmp_path, trials=6), tiny)
    best, *others = stored.front()
    final = stored.tables.finals("tiny")[others[-1].number]
    stored.tables.add_final("tiny", others[-1].number, {**final, "accuracy": 1.0})
    shown = Client(stored).study()
    assert BEATEN in shown["note"]["body"]
    notes = {t["number"]: t["note"]["body"] for t in shown["trials"]}
    assert f"(on the Pareto front): {NO_OTHER}" in notes[others[-1].number]
    assert "as the search saw it. After" in notes[best.number] and f"[trial {others[-1].number}](" in notes[best.number]


def test_a_note_tells_the_steps_and_has_their_picture(stored: StoredStudy) -> None:
    best, client = stored.front()[0], Client(stored)
    final = stored.tables.finals("tiny")[best.number]
    _, evaluation = read_recipe(stored, best, final=final["final"])
    shown = next(t for t in client.study()["trials"] if t["number"] == best.number)
    note = shown["note"]["body"]
    assert "**One of the best trade-offs**" in note and f"`nas-edge export tiny {best.number} -o DIR`" in note
    assert f"{evaluation.accuracy:.2%}" in note and f"{final['test_accuracy']:.2%}" in note
    (row,) = [line for line in note.splitlines() if line.startswith("| 1.")]
    step = evaluation.steps[0]
    assert step.technique == "training" and step.after.latency_ms is not None and step.after.accuracy is not None
    figures = words.size(step.after.size_bytes), words.ms(step.after.latency_ms), words.percent(step.after.accuracy)
    assert all(figure in row.replace("\u00a0", " ") for figure in figures), row
    (picture,) = [a for a in shown["artifacts"] if a["filename"] == "steps.png"]
    path = f"/artifacts/{client.study_id}/{best._trial_id}/{picture['artifact_id']}"
    assert f"]({path})" in note
    status, headers, body = client.ask(path)
    assert status == 200 and headers["Content-Type"] == "image/png"
    assert body == png(waterfall(evaluation.steps, LIGHT))
    with Image.open(io.BytesIO(body)) as image:
        assert image.width > 1200  # its three panels


def test_files_are_the_stored_ones_and_are_never_run(stored: StoredStudy, tmp_path: Path) -> None:
    client = Client(stored)
    trials = {t["number"]: t for t in client.study()["trials"]}
    best = stored.front()[0]
    for artifact in trials[best.number]["artifacts"]:
        if artifact["filename"].endswith("model.onnx"):
            _, headers, body = client.ask(f"/artifacts/{client.study_id}/{best._trial_id}/{artifact['artifact_id']}")
            (tmp_path / artifact["filename"]).write_bytes(body)
            assert headers["Content-Disposition"].endswith(artifact["filename"])
    assert sha256(tmp_path / "model.onnx") == best.user_attrs["onnx_sha256"]
    final = stored.tables.finals("tiny")[best.number]
    last = tmp_path / (f"final-{best.number}-model.onnx" if final["final"] else "model.onnx")
    assert sha256(last) == final["onnx_sha256"]
    hostile = next(t for t in stored.trials() if t.user_attrs.get("key") == "hostile")
    (page,) = [a for a in trials[hostile.number]["artifacts"] if a["mimetype"] == "text/html"]
    _, headers, _ = client.ask(f"/artifacts/{client.study_id}/{hostile._trial_id}/{page['artifact_id']}")
    assert headers["Content-Security-Policy"].startswith("sandbox;") and headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Disposition"].startswith("attachment;") and "<" not in headers["Content-Disposition"]
    assert client.ask(f"/artifacts/{client.study_id}/{best._trial_id}/{'0' * 8}")[0] == 404


def test_the_study_note_links_to_the_front(stored: StoredStudy) -> None:
    note = Client(stored).study()["note"]["body"]
    for trial in stored.front():
        test = f"{stored.tables.finals('tiny')[trial.number]['test_accuracy']:.2%}"
        (row,) = [line for line in note.splitlines() if f"]({page_of(stored)}/trials?numbers={trial.number})" in line]
        assert test in row
    assert "max_latency_ms = 0.5" in note and "[train]" in note and "| CPU |" in note and "\nsamples = " in note


def test_a_trial_that_came_to_nothing_says_why(stored: StoredStudy) -> None:
    shown = Client(stored).study()["trials"]
    (pruned,) = [t for t in shown if t["state"] == "Pruned"]
    assert pruned["note"]["body"].startswith("**Rejected** before its training was done: &lt;script&gt;")
    (running,) = [t for t in shown if t["state"] == "Running"]
    assert running["note"]["body"].startswith("**Running**")


def test_a_trial_that_is_finished_meanwhile_is_shown_whole(stored: StoredStudy) -> None:
    client = Client(stored)
    before = len(client.study()["trials"])
    recipe = keep(stored, "recipe.json", json.dumps(read_recipe_of(stored)).encode(), "application/json")
    attrs = dict(stored.evaluated()[0].user_attrs, key="later")
    number = add(stored, values=[0.99, 0.2], user_attrs=attrs, system_attrs=dict([recipe]))
    damaged = add(stored, values=[0.1, 0.4], user_attrs={**attrs, "key": "damaged"})
    client.app = dashboard_app(stored)  # Optuna Dashboard holds trials for two seconds
    client.study()
    answer = client.study(f"after={before}")
    assert [t["number"] for t in answer["trials"]] == [number, damaged]
    assert "### What each step changed" in answer["trials"][0]["note"]["body"]
    assert number in [t["number"] for t in answer["best_trials"]]
    assert f"the artifact recipe.json of trial {damaged} is missing" in answer["trials"][1]["note"]["body"].replace(
        "\\", ""
    )


def test_nothing_but_notes_can_be_written(stored: StoredStudy) -> None:
    client = Client(stored)
    api, best = f"/api/studies/{client.study_id}", stored.front()[0]
    before = len(stored.trials())
    for method, path, body in (
        ("DELETE", api, {}),
        ("POST", f"{api}/rename", {"study_name": "other"}),
        ("POST", "/api/studies", {"study_name": "new", "directions": ["minimize"]}),
        ("POST", f"/api/trials/{best._trial_id}/tell", {"state": "Fail"}),
        ("POST", f"/api/trials/{best._trial_id}/user-attrs", {"user_attrs": {"key": "x"}}),
        ("DELETE", f"/artifacts/{client.study_id}/{best._trial_id}/{'0' * 8}", None),
        ("POST", f"/api/artifacts/{client.study_id}", {"file": "data:,x"}),
    ):
        status, _, answer = client.ask(path, method, body)
        assert status in (403, 405), (path, status, answer)
    assert len(stored.trials()) == before and len(json.loads(client.ask("/api/studies")[2])["study_summaries"]) == 2
    status, _, answer = client.ask(f"{api}/{best._trial_id}/note", "PUT", {"body": "mine", "version": 1})
    assert status == 204, answer
    shown = next(t for t in client.study()["trials"] if t["number"] == best.number)
    assert shown["note"] == {"version": 1, "body": "mine"}
    client.ask(f"{api}/{best._trial_id}/note", "PUT", {"body": "", "version": 2})
    shown = next(t for t in client.study()["trials"] if t["number"] == best.number)
    assert shown["note"]["version"] == 2 and "**One of the best trade-offs**" in shown["note"]["body"]


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8080", ""])
def test_a_page_of_another_site_is_refused(stored: StoredStudy, host: str) -> None:
    status, _, body = Client(stored).ask("/api/studies", host=host)
    assert status == 403 and b"study_summaries" not in body
    assert Client(stored).ask("/api/studies", host="127.0.0.1:1234")[0] == 200


def test_values_are_short(stored: StoredStudy) -> None:
    """Four digits: 0.04085781976739008 ms would say what nobody knows."""
    shown = {t["number"]: t for t in Client(stored).study()["trials"]}
    for trial in stored.evaluated():
        accuracy, latency_ms = shown[trial.number]["values"]
        assert accuracy == pytest.approx(trial.values[0], rel=1e-3)
        assert latency_ms == float(f"{trial.values[1]:.4g}")


def test_a_page_that_the_browser_has_kept_is_served_anew(stored: StoredStudy) -> None:
    client = Client(stored)
    status, headers, body = client.ask("/dashboard/studies/1", kept_since="Wed, 01 Jan 2098 00:00:00 GMT")
    assert status == 200 and b"AddBoxIcon" in body and "script-src 'self'" in headers["Content-Security-Policy"]
