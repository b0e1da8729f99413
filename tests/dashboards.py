"""A small real study for the tests of the dashboard, with trials added by hand, some of which mean harm."""

from __future__ import annotations

import io
import json
import uuid
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState, create_trial

from nas_edge.plugins import Registry
from nas_edge.store.study import StoredStudy

from .studies import search, tiny_config

# Each sets window.hurt where a page takes it for more than text.
HOSTILE = (
    "<img src=x onerror=window.hurt=1>",
    "<script>window.hurt=2</script>",
    "[press](javascript:window.hurt=3) ![p](http://127.0.0.1:9/x) | `a` **b**",
)
LIMIT_MS = 0.5


def watched_study(folder: Path, registry: Registry) -> StoredStudy:
    """Two finished trials; beyond them one over the limit, a rejected one, a running one, one whose words mean harm."""
    stored = search(tiny_config(folder, trials=2, max_latency_ms=LIMIT_MS, train={"final_budget": 1.0}), registry)
    first = stored.evaluated()[0]
    over = dict(first.user_attrs, key="over", onnx_sha256="0" * 64)
    add(stored, values=[1.0, LIMIT_MS + 0.25], user_attrs=over, constraints={"latency_ms": 0.25})
    add(stored, state=TrialState.PRUNED, user_attrs={"techniques": HOSTILE[0], "why": f"rejected: {HOSTILE[1]}"})
    add(stored, state=TrialState.RUNNING, user_attrs={"worker": {"host": "elsewhere", "machine": "m", "pid": 1}})
    recipe = read_recipe_of(stored)
    step = recipe["evaluation"]["steps"][0]
    recipe["evaluation"]["steps"] = [{**step, "technique": HOSTILE[0], "notes": HOSTILE, "undone": HOSTILE[1]}, step]
    hostile = dict(first.user_attrs, key="hostile", techniques=" + ".join(HOSTILE), onnx_sha256="1" * 64)
    system_attrs = dict([keep(stored, "recipe.json", json.dumps(recipe).encode(), "application/json")])
    system_attrs |= [keep(stored, f"{HOSTILE[0]}.html", b"<script>window.hurt=4</script>", "text/html")]
    add(stored, values=[0.0, LIMIT_MS - 0.01], user_attrs=hostile, system_attrs=system_attrs)
    optuna.create_study(study_name=HOSTILE[0] + HOSTILE[1], storage=stored.storage).set_user_attr("a", HOSTILE[1])
    return stored


def add(stored: StoredStudy, **values: Any) -> int:
    """Add a trial by hand; returns its number."""
    stored.study.add_trial(create_trial(**values))
    return stored.trials()[-1].number


def keep(stored: StoredStudy, name: str, content: bytes, kind: str) -> tuple[str, str]:
    """Keep an artifact; returns the attribute of the trial that it belongs to."""
    artifact_id = str(uuid.uuid4())
    stored.artifacts.write(artifact_id, io.BytesIO(content))
    meta = {"artifact_id": artifact_id, "filename": name, "mimetype": kind, "encoding": None}
    return f"artifacts:{artifact_id}", json.dumps(meta)


def read_recipe_of(stored: StoredStudy) -> dict[str, Any]:
    """What the first finished trial stored."""
    path = stored.folder / "first.json"
    assert stored.download("recipe.json", stored.evaluated()[0], path)
    recipe: dict[str, Any] = json.loads(path.read_text())
    path.unlink()
    return recipe
