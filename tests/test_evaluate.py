"""One candidate judged: every figure of its evaluation against the file itself."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from nas_edge import ArchSpec, Candidate, CandidateSpec, Step, estimate
from nas_edge.evaluate import artifacts, evaluate, make_draft
from nas_edge.plugins import Registry
from nas_edge.records import Evaluation

from .engine.devices import Device
from .studies import opened, sha256, tiny_config

ARCH = ArchSpec("tiny", 1, {"width": 4, "features": 8, "kernel": 3})


@pytest.mark.parametrize("quantized", [False, True])
def test_an_evaluation_is_of_the_file(quantized: bool, tiny: Registry, tmp_path: Path) -> None:
    session, _ = opened(tiny_config(tmp_path, train={"samples": 2000}), tiny)
    steps = (Step("quantize", tiny.techniques["quantize"].version, {}),) if quantized else ()
    spec = CandidateSpec(ARCH, steps)
    with session.context() as context:
        candidate, found = evaluate(tiny, spec, context, session.config.train)
        path = artifacts(candidate)[1]
        graph = onnx.load(path)
        runner = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
        images = session.data.validation.images.numpy().astype(np.float32) / 255
        right = runner.run(None, {"input": images})[0].argmax(1) == session.data.validation.labels.numpy()
        assert found.accuracy == right.mean() and found.accuracy > 0.3
        assert found.size_bytes == path.stat().st_size
        assert found.onnx_sha256 == sha256(path)
        draft = make_draft(tiny, spec, context, session.config.train)
    assert found.key == spec.key
    assert found.latency_ms == pytest.approx(1e-5 * graph.ByteSize())
    assert found.latency_source == "predicted"
    assert found.latency_low_ms < found.latency_ms < found.latency_high_ms
    # 8 x 8 images, both convolutions with stride 2: 16 and then 4 places
    assert found.macs == 9 * 4 * 16 + 9 * 4 * 8 * 4 + 32 * 10
    weights = 9 * 4 + 9 * 4 * 8 + 32 * 10
    assert weights <= found.parameters <= weights + 2 * (4 + 8) + 10 + 2
    assert draft.latency.ms == pytest.approx(found.latency_ms, rel=0.02)
    assert draft.size_bytes == pytest.approx(found.size_bytes, rel=0.02)
    stages = {"graph"} if quantized else set()
    assert {"train", "observe", "export", "judge", "total"} | stages == set(found.seconds)
    assert found.seconds["total"] >= found.seconds["train"]
    assert [s.technique for s in found.steps] == (["training", "quantize"] if quantized else ["training"])
    assert found.techniques == (("quantize",) if quantized else ())
    assert all(math.isfinite(v) for v in dataclasses.asdict(found)["seconds"].values())


def test_a_measured_latency_keeps_its_doubts(tiny: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device()
    device.unstable.add(0)
    monkeypatch.setattr(estimate, "_ask", lambda *_: None)  # no profile knows the network
    session, _ = opened(tiny_config(tmp_path, train={"samples": 100}), tiny)
    monkeypatch.setattr(type(session.target), "measure", lambda *given: device.measure(*given))
    with session.context() as context:
        _, found = evaluate(tiny, CandidateSpec(ARCH), context, session.config.train)
    assert (found.latency_source, found.latency_ms) == ("measured", device.ms[found.onnx_sha256])
    assert found.latency_unstable_because == "the clock moves; fix its frequency"
    assert Evaluation.from_json(dataclasses.asdict(found)) == found


def test_a_candidate_without_a_file_is_refused() -> None:
    with pytest.raises(ValueError, match="has no ONNX file yet"):
        artifacts(Candidate(CandidateSpec(ARCH)))
