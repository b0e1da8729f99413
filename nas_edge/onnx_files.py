"""ONNX files from outside: what is not sound, or reaches beyond its folder, is refused before anything reads on."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx

from nas_edge.agent import MODEL_LIMIT
from nas_edge.errors import ModelError

# What ONNX Runtime has operators of. Other domains are those of libraries that a file wants to be loaded.
DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft", "com.microsoft.nchwc"})


def read_onnx(path: Path) -> onnx.ModelProto:
    """The model in an ONNX file, without weights that lie in files beside it.

    Raises `ModelError` with the path where it is no sound model by ONNX's own checker, is larger than 512 MB with its
    weights, holds operators of unknown domains, or names files outside its folder.
    """
    try:
        size_bytes = path.stat().st_size
        if size_bytes > MODEL_LIMIT:
            raise ModelError(_too_large(path, size_bytes))
        model = onnx.load_model(path, load_external_data=False)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}); give the path of an ONNX file") from None
    except ModelError:
        raise
    except Exception as error:  # protobuf's own, which it has several of
        raise ModelError(f"{path}: not an ONNX model ({_said(error)})") from None
    if not model.graph.node or not model.opset_import:
        raise ModelError(f"{path}: not an ONNX model: it holds no graph")
    nodes, tensors = _parts(model)
    _check_domains(path, model, nodes)
    outside = [tensor for tensor in tensors if tensor.data_location == onnx.TensorProto.EXTERNAL]
    total_bytes = size_bytes + sum(_place(path, tensor)[2] for tensor in outside)
    if total_bytes > MODEL_LIMIT:
        raise ModelError(_too_large(path, total_bytes))
    try:
        onnx.checker.check_model(str(path) if outside else model)
    except (onnx.checker.ValidationError, ValueError) as error:
        raise ModelError(f"{path}: not a sound ONNX model ({_said(error)})") from None
    return model


@contextmanager
def in_one_file(path: Path) -> Iterator[Path]:
    """An ONNX file that holds all its weights: the given one, or a copy that is gone after the block.

    Raises `ModelError` like `read_onnx`.
    """
    model = read_onnx(path)
    outside = [tensor for tensor in _parts(model)[1] if tensor.data_location == onnx.TensorProto.EXTERNAL]
    if not outside:
        yield path
        return
    for tensor in outside:
        file, offset, length = _place(path, tensor)
        with file.open("rb") as opened:
            opened.seek(offset)
            tensor.raw_data = opened.read(length)
        del tensor.external_data[:]
        tensor.data_location = onnx.TensorProto.DEFAULT
    with tempfile.TemporaryDirectory(prefix="nas_edge_") as folder:
        whole = Path(folder) / path.name
        whole.write_bytes(model.SerializeToString())
        yield whole


def _parts(model: onnx.ModelProto) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """All nodes and constants: those of inner graphs and of functions too."""
    nodes: list[onnx.NodeProto] = []
    tensors: list[onnx.TensorProto] = []
    graphs = [model.graph]
    for training in model.training_info:
        graphs += [training.initialization, training.algorithm]
    attributes: list[onnx.AttributeProto] = []
    for function in model.functions:
        nodes += function.node
        attributes += function.attribute_proto
    seen = 0
    while graphs or attributes or seen < len(nodes):
        for graph in graphs:
            nodes += graph.node
            tensors += graph.initializer
            tensors += [part for sparse in graph.sparse_initializer for part in (sparse.values, sparse.indices)]
        attributes += [attribute for node in nodes[seen:] for attribute in node.attribute]
        graphs, seen = [], len(nodes)
        for attribute in attributes:
            graphs += [*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])]
            tensors += [*attribute.tensors, *([attribute.t] if attribute.HasField("t") else [])]
            sparse_tensors = [*attribute.sparse_tensors, attribute.sparse_tensor]
            tensors += [part for sparse in sparse_tensors for part in (sparse.values, sparse.indices)]
        attributes = []
    return nodes, tensors


def _check_domains(path: Path, model: onnx.ModelProto, nodes: list[onnx.NodeProto]) -> None:
    own = {(function.domain, function.name) for function in model.functions}
    for node in nodes:
        if node.domain not in DOMAINS and (node.domain, node.op_type) not in own:
            raise ModelError(
                f"{path}: the operator {node.op_type!r} is of the unknown domain {node.domain!r}; "
                "export the model with operators of ONNX or com.microsoft"
            )


def _place(path: Path, tensor: onnx.TensorProto) -> tuple[Path, int, int]:
    """The file in which a constant lies, and where in it: offset and length in bytes.

    Raises `ModelError` where that is not within a file in the model's folder.
    """
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location, folder = entries.get("location", ""), path.parent.resolve()
    try:
        file = (folder / location).resolve()
        if Path(location).is_absolute() or not file.is_relative_to(folder) or not file.is_file():
            raise ModelError(
                f"{path}: the weights of {tensor.name!r} are in {location!r}, which is no file in the model's folder; "
                "move it there, or save the model in one file"
            )
        size_bytes, offset = file.stat().st_size, int(entries.get("offset") or 0)
        length = int(entries.get("length") or size_bytes - offset)
    except (ValueError, OSError, RuntimeError) as error:  # a null byte, a number that is none, a loop of links
        raise ModelError(f"{path}: the weights of {tensor.name!r} cannot be found ({_said(error)})") from None
    if min(offset, length) < 0 or offset + length > size_bytes:
        raise ModelError(
            f"{path}: the weights of {tensor.name!r} are {length} bytes at {offset} of {location!r}, which has "
            f"{size_bytes}; save the model again"
        )
    return file, offset, length


def _too_large(path: Path, size_bytes: int) -> str:
    return f"{path}: {size_bytes >> 20} MB are more than the {MODEL_LIMIT >> 20} MB that a model may have"


def _said(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
