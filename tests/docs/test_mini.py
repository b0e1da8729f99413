"""The product in about 200 lines: it works, and docs/mini.md is that file piece by piece."""

from __future__ import annotations

import importlib.util
import re
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime
import pytest

DOCS = Path(__file__).parents[2] / "docs"
FILE = DOCS / "mini" / "nas_edge_mini.py"


@pytest.fixture(scope="module")
def mini() -> ModuleType:
    found = importlib.util.spec_from_file_location("nas_edge_mini", FILE)
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_the_page_is_the_file_piece_by_piece() -> None:
    pieces = re.findall(r"^```python\n(.*?)^```", (DOCS / "mini.md").read_text(), re.MULTILINE | re.DOTALL)
    squeezed = [re.sub(r"\n{2,}", "\n\n", text).strip() for text in ("\n\n".join(pieces), FILE.read_text())]
    assert squeezed[0] == squeezed[1]
    assert sum(bool(line.strip()) for line in FILE.read_text().splitlines()) < 230


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_small_search(mini: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Double:
        """Somebody's technique: it only notes that it was called."""

        name = "zz_double"
        calls: list[Path] = []  # noqa: RUF012

        def graph(self, path: Path, images: Any) -> Path:
            self.calls.append(path)
            return path

    class Plugin:
        @mini.hookimpl  # type: ignore[untyped-decorator]
        def register_techniques(self, register: Any) -> None:
            register(Double())

    monkeypatch.setattr(mini, "measure_ms", lambda path, seconds=0.1: 1e-6 * Path(path).stat().st_size)
    study, front = mini.search(4, 1, 6, tmp_path / "out", plugins=(Plugin(),))
    assert len(study.trials) == 4 and Double.calls
    assert any("int8" in t.user_attrs["techniques"] for t in study.trials)
    points = [(row["searched_ms"], -row["validation"]) for row in front]
    assert points == sorted(points) and len(points) >= 1
    for row in front:
        assert 0.05 < row["test"] <= 1 and row["measured_ms"] == pytest.approx(1e-6 * row["size_bytes"])
    runner = onnxruntime.InferenceSession(study.best_trials[0].user_attrs["file"])
    assert runner.run(None, {"input": np.zeros((3, 1, 8, 8), np.float32)})[0].shape == (3, 10)
    again, same = mini.search(4, 1, 4, tmp_path / "out", plugins=(Plugin(),))
    assert len(again.trials) == 4 and [row["trial"] for row in same] == [row["trial"] for row in front]


def test_the_predictor_finds_the_prices_it_was_made_of(mini: ModuleType) -> None:
    random = np.random.default_rng(0)
    works = [
        {kind: (int(random.integers(1, 5)), float(random.uniform(1, 100))) for kind in ("Conv", "Relu")}
        for _ in range(12)
    ]
    times = [0.01 + 0.02 * w["Conv"][0] + 0.003 * w["Conv"][1] + 0.001 * w["Relu"][1] for w in works]
    predictor = mini.Predictor(works, times)
    assert [predictor.predict_ms(w) for w in works] == pytest.approx(times, rel=1e-6)
    assert predictor.predict_ms({**works[0], "Softmax": (1, 10.0)}) is None


def test_work_counts_multiply_accumulates(mini: ModuleType, tmp_path: Path) -> None:
    params = {"width": 8, "blocks": 1, "kernel": 3, "expand": 2}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = mini.produce(params, [], mini.load_data()[0], 0, tmp_path / "m.onnx")
    kinds = mini.work(path)
    assert kinds["Conv"] == (3, 64 * (8 * 9 + 16 * 8 + 8 * 16))
    assert kinds["Conv depthwise"] == (1, 64 * 16 * 9)
    assert kinds["Gemm"] == (1, 10 * 8)
