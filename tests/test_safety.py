"""Nothing that is read runs code: no pickle, no evaluated text, no shell, in the sources or in what a study stores."""

from __future__ import annotations

import ast
import io
import pickle
import pickletools
import sqlite3
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from nas_edge import UserError
from nas_edge.model_names import ModelReference
from nas_edge.models import _read_state_dict
from nas_edge.plugins import Registry
from nas_edge.train.weights import BadWeights, read_weights

from .studies import search, tiny_config

ROOT = Path(__file__).parents[1]
SOURCES = sorted(path for folder in ("nas_edge", "plugins", "search_spaces") for path in (ROOT / folder).rglob("*.py"))
MODULES = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal", "yaml", "code", "pty"}
CALLS = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "numpy.load", "yaml.load", "torch.jit.load"}


def _name(node: ast.expr) -> str:
    """`a.b.c` of an expression that is one."""
    if isinstance(node, ast.Attribute):
        return f"{_name(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def faults(source: str) -> Iterator[str]:
    """What in a source would run what it reads."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (f"import {alias.name}" for alias in node.names if alias.name.split(".")[0] in MODULES)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in MODULES and not node.level:
            yield f"import {node.module}"
        elif isinstance(node, ast.Call):
            name, given = _name(node.func), {k.arg: k.value for k in node.keywords}
            if name in CALLS or (name == "np.load" and not _is(False, given.get("allow_pickle"))):
                yield name
            if name == "torch.load" and not _is(True, given.get("weights_only")):
                yield "torch.load without weights_only=True"
            if _is(True, given.get("shell")) or _is(True, given.get("allow_pickle")):
                yield f"{name} with shell or allow_pickle"


def _is(wanted: bool, value: ast.expr | None) -> bool:
    return isinstance(value, ast.Constant) and value.value is wanted


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_source_runs_what_it_reads(path: Path) -> None:
    assert list(faults(path.read_text())) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from yaml import load",
        "import joblib.memory",
        "x = eval(y)",
        "torch.load(p)",
        "torch.load(p, weights_only=False)",
        "subprocess.run(c, shell=True)",
        "np.load(p, allow_pickle=True)",
        "np.load(p)",
        "def f():\n    os.system(c)",
    ],
)
def test_what_would_is_seen(source: str) -> None:
    assert list(faults(source))


def test_nothing_listens_beyond_this_machine() -> None:
    """What listens is the dashboard, whose address is fixed, and the storage proxy, told another only by hand."""
    listening = [p for p in SOURCES if "make_server(" in p.read_text() or "0.0.0.0" in p.read_text()]
    assert [str(p.relative_to(ROOT / "nas_edge")) for p in listening] == ["cli/dashboard.py", "store/proxy.py"]
    assert 'HOST = "127.0.0.1"' in listening[0].read_text() and "make_server(HOST," in listening[0].read_text()
    assert '] = "127.0.0.1"' in (ROOT / "nas_edge" / "cli" / "proxy.py").read_text()


# --- what a study stores


def is_pickle(content: bytes) -> bool:
    """Whether bytes are a pickle of protocol 2 or later, with anything after it."""
    if not content.startswith(b"\x80"):
        return False
    try:
        return any(op.name == "STOP" for op, _, _ in pickletools.genops(content))
    except ValueError:
        return False


def test_a_pickle_is_known_by_its_first_bytes() -> None:
    assert is_pickle(pickle.dumps({"a": 1})) and not is_pickle(b'{"a": 1}') and not is_pickle(b"\x80\x00")


def test_a_study_stores_no_pickle(tiny: Registry, tmp_path: Path) -> None:
    """Neither in its database nor in its files. A state dict of torch's is a zip with a pickle of its names and shapes,
    and is exempt: `torch.load(weights_only=True)`, the only reader of it, knows tensors and containers alone."""
    stored = search(tiny_config(tmp_path / "study", trials=1, techniques=["distill"]), tiny)
    weights = 0
    for path in (p for p in stored.folder.rglob("*") if p.is_file()):
        content = path.read_bytes()
        assert not is_pickle(content), path
        if zipfile.is_zipfile(io.BytesIO(content)):
            assert read_weights(path)
            weights += 1
    assert weights == 1  # the teacher
    with sqlite3.connect(stored.folder / "study.db") as database:
        for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            values = [value for row in database.execute(f'SELECT * FROM "{name}"') for value in row]
            assert not any(isinstance(value, bytes) for value in values), name
    database.close()


class Runs:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise SystemExit('it ran')",)


@pytest.mark.parametrize("content", ["zip", "pickle", "garbage", "cut"])
def test_weights_that_would_run_code_are_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.save({"a": Runs()} if content == "zip" else {"a": torch.zeros(100)}, path)
    if content != "zip":
        whole = path.read_bytes()
        path.write_bytes({"pickle": pickle.dumps(Runs()), "garbage": b"\x80\x02.", "cut": whole[:300]}[content])
    with pytest.raises(BadWeights) as caught:
        read_weights(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=r"no state dict, which torch\.load"):
        _read_state_dict(ModelReference.parse(f"torchvision:resnet18:{path}"))
