"""A stored study is a plain Optuna study: its tools read it without nas_edge."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from nas_edge.plugins import Registry
from nas_edge.store.study import StoredStudy

from ..studies import search, tiny_config

LOAD = """
import json, sys
import optuna
study = optuna.load_study(study_name="tiny", storage=sys.argv[1])
metas = optuna.artifacts.get_all_artifact_meta(study.best_trials[0], storage=study._storage)
print(json.dumps({
    "nas_edge": [name for name in sys.modules if name.startswith("nas_edge")],
    "metric_names": study.metric_names,
    "directions": [d.name for d in study.directions],
    "best": sorted(t.number for t in study.best_trials),
    "states": [t.state.name for t in study.trials],
    "attrs": [t.user_attrs for t in study.trials],
    "study_attrs": sorted(study.user_attrs),
    "artifacts": sorted(m.filename for m in metas),
}))
"""


@pytest.fixture
def stored(tiny: Registry, tmp_path: Path) -> StoredStudy:
    return search(tiny_config(tmp_path, trials=3, techniques=["quantize"], max_latency_ms=0.2), tiny)


def test_optuna_loads_a_study_without_nas_edge(stored: StoredStudy, tmp_path: Path) -> None:
    done = subprocess.run(
        (sys.executable, "-I", "-c", LOAD, stored.url), capture_output=True, text=True, cwd=tmp_path, check=True
    )
    read = json.loads(done.stdout)
    assert read["nas_edge"] == []
    assert read["metric_names"] == ["accuracy", "latency_ms"]
    assert read["directions"] == ["MAXIMIZE", "MINIMIZE"]
    assert read["best"] == sorted(t.number for t in stored.front())
    assert read["states"].count("COMPLETE") == 3
    assert read["artifacts"] == ["model.onnx", "recipe.json"]
    assert {"config", "plugins", "data", "target"} <= set(read["study_attrs"])
    for attrs in read["attrs"]:
        assert all(len(json.dumps(value)) < 500 for value in attrs.values())
    for attrs, state in zip(read["attrs"], read["states"], strict=True):
        if state == "COMPLETE":
            assert {"accuracy", "latency", "size_bytes", "techniques", "onnx_sha256"} <= set(attrs)


def test_a_long_reason_is_cut(tiny: Registry, tmp_path: Path) -> None:
    from nas_edge import CandidateSpec, Context, hookimpl

    class Verbose:
        calls = 0

        @hookimpl
        def validate_candidate(self, spec: CandidateSpec, context: Context) -> str | None:
            self.calls += 1
            return "because " * 1000 if self.calls == 1 else None

    tiny.hooks.register(Verbose())
    (rejected,) = search(tiny_config(tmp_path, trials=1), tiny).trials(TrialState.PRUNED)
    assert 100 < len(rejected.user_attrs["why"]) < 500


def get(app: Any, path: str) -> dict[str, Any]:
    """One request to a WSGI application."""
    status: list[str] = []
    environ = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": sys.stderr,
    }
    body = b"".join(app(environ, lambda line, headers, error=None: status.append(line)))
    assert status == ["200 OK"], body
    answer: dict[str, Any] = json.loads(body)
    return answer


def test_the_dashboard_shows_named_objectives_and_attributes(stored: StoredStudy) -> None:
    optuna_dashboard = pytest.importorskip("optuna_dashboard")
    app = optuna_dashboard.wsgi(stored.storage, artifact_store=stored.artifacts)
    (listed,) = get(app, "/api/studies")["study_summaries"]
    assert listed["study_name"] == "tiny"
    detail = get(app, f"/api/studies/{listed['study_id']}")
    assert detail["objective_names"] == ["accuracy", "latency_ms"]
    assert detail["directions"] == ["maximize", "minimize"]
    shown = {t["number"]: t for t in detail["trials"]}
    for trial in stored.trials(TrialState.COMPLETE):
        attrs = {a["key"]: a["value"] for a in shown[trial.number]["user_attrs"]}
        assert attrs["latency"] == trial.user_attrs["latency"] and "predicted" in attrs["latency"]
        assert {a["filename"] for a in shown[trial.number]["artifacts"]} == {"model.onnx", "recipe.json"}
