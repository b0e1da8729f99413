"""Addresses and fingerprints, and the local target."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from nas_edge import ModelError, UserError
from nas_edge.plugins import load_plugins
from nas_edge.targets.address import Address, differences, fingerprint_key, parse_target, parse_threads
from nas_edge.targets.campaign import reference_model
from nas_edge.targets.local import LocalTarget

from ..models import expanding_model


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(reference_model())
    return path


def test_addresses() -> None:
    assert Address.parse("ssh://pi@board:2222?threads=4") == Address("ssh", "pi@board:2222", {"threads": "4"})
    targets = load_plugins().targets
    assert parse_target(targets, "local").name == "local"
    assert parse_target(targets, "local?threads=1").name == "local"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("locl", "did you mean 'local'"),
        ("local?threads=0", "threads is '0'; give a whole number from 1"),
        ("local?threads=two", "threads is 'two'"),
        ("local?threads=200", "this process may use"),
        ("local?cores=2", "no option 'cores'; it has threads, provider, processes, max_memory_mb"),
        ("local?provider=../x", "provider is '../x'"),
        ("local?processes=0", "processes is '0'"),
        ("local?threads", "threads"),
        ("local?threads=1&threads=2", "given twice"),
        ("local://host", "takes no host"),
        ("", "unknown target ''"),
    ],
)
def test_wrong_addresses_are_named_with_the_remedy(text: str, reason: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_target(load_plugins().targets, text)
    assert reason in str(caught.value) and "\n" not in str(caught.value)


def test_threads_are_a_number() -> None:
    assert parse_threads("2") == 2
    with pytest.raises(UserError, match="threads is '²'"):
        parse_threads("²")


def test_fingerprints() -> None:
    first = {"cpu": "A", "threads": 1, "load": 0.1, "affinity": [1]}
    assert fingerprint_key(first) == fingerprint_key({"affinity": [0], "load": 3.0, "threads": 1, "cpu": "A"})
    assert fingerprint_key(first) != fingerprint_key({**first, "threads": 2})
    assert differences(first, {**first, "threads": 2, "load": 9}) == ["threads 1, here 2"]
    assert differences(first, first) == []


@pytest.mark.alone
def test_a_model_is_measured(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    target = LocalTarget()
    start = time.monotonic()
    result = target.measure(model, 0.6)
    assert time.monotonic() - start < 30
    assert 0 < result.low_ms <= result.p50_ms <= result.high_ms
    assert result.p50_ms <= result.p90_ms and result.samples >= 9
    assert result.target == "local"
    assert result.fingerprint["threads"] == 1
    assert fingerprint_key(result.fingerprint) == fingerprint_key(target.fingerprint())


@pytest.mark.alone
def test_twice_the_work_takes_longer(model: Path, tmp_path: Path) -> None:
    """Interleaved, so that even a busy machine tells them apart."""
    import onnx

    graph = onnx.load(model)
    graph.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 48
    graph.graph.input[0].type.tensor_type.shape.dim[3].dim_value = 48
    larger = tmp_path / "larger.onnx"
    onnx.save(graph, larger)
    small, large = LocalTarget().measure_many([model, larger], 0.6)
    assert 3 < large.p50_ms / small.p50_ms < 27  # 9 times the pixels


def test_what_is_not_onnx_is_a_model_error_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "wrong.onnx"
    path.write_text("no model")
    with pytest.raises(ModelError) as caught:
        LocalTarget().measure(path, 0.1)
    assert str(path) in str(caught.value) and "INVALID_PROTOBUF" in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(ModelError, match="No such file"):
        LocalTarget().measure(tmp_path / "missing.onnx", 0.1)


def test_a_removed_working_folder_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert LocalTarget().fingerprint()["architecture"]


def test_options_are_part_of_the_name() -> None:
    address = "local?threads=2&provider=AzureExecutionProvider&processes=1&max_memory_mb=512"
    assert LocalTarget.from_address(address).name == address
    assert LocalTarget.from_address("local?processes=3&threads=1&provider=CPUExecutionProvider").name == "local"
    assert LocalTarget(threads=2).name == "local?threads=2"


@pytest.mark.alone
def test_two_threads_are_pinned_to_two_cores(model: Path) -> None:
    target = LocalTarget(threads=2, processes=1)
    assert len(target.fingerprint()["affinity"]) == 2
    result = target.measure(model, 0.3)
    assert result.fingerprint["threads"] == 2 and result.p50_ms > 0


def test_a_provider_that_is_not_offered_is_refused_by_name() -> None:
    with pytest.raises(UserError) as caught:
        LocalTarget(provider="NoSuchProvider").fingerprint()
    assert "does not offer NoSuchProvider; it offers " in str(caught.value)
    assert "CPUExecutionProvider" in str(caught.value) and "\n" not in str(caught.value)


def test_a_model_that_needs_too_much_memory_is_refused_in_one_line(model: Path, tmp_path: Path) -> None:
    large = tmp_path / "large.onnx"
    large.write_bytes(expanding_model(200 << 20))
    with LocalTarget(max_memory_mb=500, processes=1).campaign() as campaign:
        with pytest.raises(ModelError) as caught:
            campaign.add(large)
        assert "it needs more memory than the agent may have (max_memory_mb)" in str(caught.value)
        assert "\n" not in str(caught.value)
        assert campaign.add(model) == 0
        campaign.run(0.1)
        assert len(campaign.visits[0]) >= 3
