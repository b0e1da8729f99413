"""ONNX files from outside: what is refused, and weights that lie in files beside one."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, external_data_helper, helper

from nas_edge import ModelError, onnx_files
from nas_edge.export import logits, session
from nas_edge.onnx_files import in_one_file, read_onnx

from .latency.networks import Network, random_mobile


def in_two_files(folder: Path) -> Path:
    """A network whose weights lie in `weights.bin` beside it."""
    model = random_mobile(0)
    external_data_helper.convert_model_to_external_data(model, location="weights.bin", size_threshold=0)
    onnx.save(model, folder / "model.onnx")
    return folder / "model.onnx"


def refusal(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        read_onnx(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)
    return str(caught.value)


def test_weights_beside_the_file_are_brought_into_one(tmp_path: Path) -> None:
    path = in_two_files(tmp_path)
    assert all(w.data_location == TensorProto.EXTERNAL for w in read_onnx(path).graph.initializer)
    images = np.random.default_rng(0).random((1, 3, *[d.dim_value for d in _input(path)[2:]]), np.float32)
    with in_one_file(path) as whole:
        assert whole != path and not (whole.parent / "weights.bin").exists()
        assert np.array_equal(logits(session(whole), images), logits(session(path), images))
    assert not whole.exists()
    onnx.save(random_mobile(0), tmp_path / "one.onnx")
    with in_one_file(tmp_path / "one.onnx") as whole:
        assert whole == tmp_path / "one.onnx"


def _input(path: Path) -> list[onnx.TensorShapeProto.Dimension]:
    return list(onnx.load(path, load_external_data=False).graph.input[0].type.tensor_type.shape.dim)


@pytest.mark.parametrize(
    "location", ["/etc/passwd", "../outside.bin", "link.bin", "missing.bin", "", ".", "a\0b", "x/.."]
)
def test_weights_outside_the_folder_are_refused(location: str, tmp_path: Path) -> None:
    (tmp_path / "outside.bin").write_bytes(b"\0" * 10_000)
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "link.bin").symlink_to(tmp_path / "outside.bin")
    path = in_two_files(folder)
    model = onnx.load(path, load_external_data=False)
    for weight in model.graph.initializer:
        next(e for e in weight.external_data if e.key == "location").value = location
    path.write_bytes(model.SerializeToString())
    said = refusal(path)
    assert "no file in the model's folder; move it there" in said or "cannot be found" in said


@pytest.mark.parametrize(
    ("key", "value"), [("offset", "-1"), ("offset", str(2**62)), ("length", "x"), ("length", "-4")]
)
def test_weights_beyond_their_file_are_refused(key: str, value: str, tmp_path: Path) -> None:
    path = in_two_files(tmp_path)
    model = onnx.load(path, load_external_data=False)
    next(e for e in model.graph.initializer[0].external_data if e.key == key).value = value
    path.write_bytes(model.SerializeToString())
    assert "the weights of 'weight1'" in refusal(path)


def test_a_model_above_the_limit_is_refused_with_what_lies_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = in_two_files(tmp_path)
    monkeypatch.setattr(onnx_files, "MODEL_LIMIT", path.stat().st_size + 100)
    assert "more than the" in refusal(path)
    monkeypatch.setattr(onnx_files, "MODEL_LIMIT", path.stat().st_size - 1)
    assert "more than the" in refusal(path)


@pytest.mark.parametrize("place", ["graph", "branch", "function"])
def test_operators_of_unknown_domains_are_refused(place: str, tmp_path: Path) -> None:
    foreign = helper.make_node("Launch", ["x"], ["y"], domain="my.own")
    net = Network(3, 8)
    model = net.model(net.conv("input", 8, 3, 3))
    model.opset_import.append(helper.make_opsetid("my.own", 1))
    if place == "graph":
        model.graph.node.append(foreign)
    elif place == "branch":
        inner = helper.make_graph([foreign], "inner", [], [])
        outer = helper.make_graph([helper.make_node("If", ["c"], ["z"], then_branch=inner)], "outer", [], [])
        model.graph.node.append(helper.make_node("Loop", ["n"], ["w"], body=outer))
    else:
        opsets = [helper.make_opsetid("my.own", 1)]
        model.functions.append(helper.make_function("other", "Own", ["x"], ["y"], [foreign], opsets))
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    assert "the operator 'Launch' is of the unknown domain 'my.own'; export the model with" in refusal(path)


def test_functions_of_the_file_itself_are_known(tmp_path: Path) -> None:
    net = Network(3, 8)
    value = net.conv("input", 8, 3, 3)
    model = net.model(value)
    body = [helper.make_node("Relu", ["x"], ["y"])]
    model.functions.append(helper.make_function("own", "Act", ["x"], ["y"], body, [helper.make_opsetid("", 17)]))
    model.opset_import.append(helper.make_opsetid("own", 1))
    model.graph.node.append(helper.make_node("Act", [value], ["after"], domain="own"))
    model.graph.output[0].name = "after"
    onnx.save(model, tmp_path / "model.onnx")
    assert len(read_onnx(tmp_path / "model.onnx").functions) == 1


def test_a_graph_that_reads_itself_is_refused(tmp_path: Path) -> None:
    model = random_mobile(0)
    for first, last in itertools.pairwise(reversed(model.graph.node)):
        last.input[0] = first.output[0]
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    assert "not a sound ONNX model (Nodes in a graph must be topologically sorted" in refusal(path)
