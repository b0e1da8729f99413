"""Imports run one way, and the engine knows no technique and no search space: proved by reading every import."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# A module imports from its own layer and from those before it. A package's name stands for all in it; the longest
# name that fits decides. Imports under TYPE_CHECKING count: they bind two modules together as well.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("errors", "files", "spec", "records", "classify", "machine_lock", "cpu"),
    ("contracts", "hookspecs"),
    ("plugins", "config", "goals", "conditions", "study_file", "model_names"),
    ("data", "train", "export", "latency", "targets", "agent", "onnx_files"),
    ("estimate", "figures", "gate", "steps", "making", "pipeline", "models", "evaluate"),
    ("samplers",),
    ("store", "engine"),
    ("report",),
    ("testing",),
    ("templates",),
    ("cli", "__main__"),
    ("api",),
)
PUBLIC = "nas_edge"  # the package itself gathers the public API, and is for plugins, not for the engine
MAY_IMPORT = {"agent": {"numpy", "onnxruntime"}, "classify": {"numpy", "onnxruntime", "PIL"}}
ENTRY_POINTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["nas_edge"]
PLUGIN_MODULES = {module for module in ENTRY_POINTS.values() if not module.startswith("nas_edge.")}
HEAVY = ("torch", "onnxruntime", "onnx", "optuna", "sklearn", "scipy", "sqlalchemy")


def _modules(folder: str, package: str) -> Iterator[tuple[str, Path]]:
    for path in sorted((ROOT / folder).rglob("*.py")):
        parts = path.relative_to(ROOT / folder).with_suffix("").parts
        yield ".".join((package, *(p for p in parts if p != "__init__"))), path


def imports(module: str, path: Path) -> set[str]:
    """The full names that a module imports, anywhere in it; relative ones resolved."""
    found: set[str] = set()
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, *([base] if base else [])])
            found |= {f"{base}.{alias.name}" for alias in node.names}
    return found


def _top(name: str) -> str:
    return name.split(".")[0]


def _layer(module: str) -> int | None:
    """Where `nas_edge.x.y` stands; None for `nas_edge` itself and for what no layer names."""
    part = module.split(".")[1] if "." in module else ""
    return next((i for i, names in enumerate(LAYERS) if part in names), None)


ENGINE = list(_modules("nas_edge", "nas_edge"))
ADDED = [*_modules("plugins", "nas_edge_plugins"), *_modules("search_spaces", "nas_edge_spaces")]


def test_imports_are_found_wherever_they_stand(tmp_path: Path) -> None:
    path = tmp_path / "b.py"
    path.write_text("import a.x\nfrom . import c\nfrom ..d import e\ndef f():\n    from g.h import i, j\n")
    assert imports("p.q.b", path) == {"a.x", "p.q.c", "p.d.e", "g.h.i", "g.h.j"}
    init = tmp_path / "__init__.py"
    init.write_text("from .b import f\nfrom . import b\n")
    assert imports("p.q", init) == {"p.q.b.f", "p.q.b"}


@pytest.mark.parametrize(("module", "path"), ENGINE, ids=[m for m, _ in ENGINE])
def test_the_engine_imports_no_technique_and_no_search_space(module: str, path: Path) -> None:
    ours = {"nas_edge_plugins", "nas_edge_spaces", "plugins", "search_spaces"}
    assert not ours & {_top(name) for name in imports(module, path)}
    constants = {node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)}
    named = {
        text for text in constants if isinstance(text, str) and text.startswith(("nas_edge_plugins", "nas_edge_spaces"))
    }
    assert not named, f"{module} could import by name: {named}"


@pytest.mark.parametrize(("module", "path"), ENGINE, ids=[m for m, _ in ENGINE])
def test_imports_run_one_way(module: str, path: Path) -> None:
    if module == PUBLIC:
        return
    here = _layer(module)
    assert here is not None, f"{module} stands in no layer: name it in LAYERS"
    inside = {name for name in imports(module, path) if _top(name) == PUBLIC}
    later = {name for name in inside if (_layer(name) or 0) > here}
    assert not later, f"{module} imports from a later layer: {sorted(later)}"


def test_only_the_command_that_runs_it_imports_the_kit() -> None:
    """And only the kit imports pytest, which is no dependency."""
    importers: dict[str, set[str]] = {"kit": set(), "pytest": set()}
    for module, path in [*ENGINE, *ADDED]:
        if module.startswith(("nas_edge.testing", "nas_edge.templates")):
            continue
        for name in imports(module, path):
            importers["kit"] |= {module} if name.startswith("nas_edge.testing") else set()
            importers["pytest"] |= {module} if _top(name) == "pytest" else set()
    assert importers == {"kit": {"nas_edge.cli.check"}, "pytest": set()}


@pytest.mark.parametrize(("module", "path"), ADDED, ids=[m for m, _ in ADDED])
def test_built_ins_import_only_the_public_api(module: str, path: Path) -> None:
    """`nas_edge` and `nas_edge.testing`, as anybody's plugin would; of each other only what is no plugin."""
    import nas_edge

    own = ".".join(module.split(".")[:2])
    others = PLUGIN_MODULES - {own}
    for name in imports(module, path):
        if _top(name) == PUBLIC:
            public = name == PUBLIC or name.split(".")[1] in nas_edge.__all__ or name.startswith("nas_edge.testing")
            assert public, f"{module} imports {name}, which is not in the public API"
        reached = {other for other in others if f"{name}.".startswith(f"{other}.")}
        assert not reached, f"{module} reaches into another plugin: {name}"
        assert _top(name) not in ("plugins", "search_spaces")


@pytest.mark.parametrize("name", MAY_IMPORT)
def test_what_runs_alone_on_a_device_needs_little(name: str) -> None:
    """Nothing of nas_edge, nothing else."""
    (path,) = (path for module, path in ENGINE if module == f"nas_edge.{name}")
    needed = {_top(found) for found in imports(f"nas_edge.{name}", path)} - sys.stdlib_module_names
    assert needed == MAY_IMPORT[name]


LIGHT = [
    "nas_edge",
    *(f"nas_edge.{name}" for names in LAYERS[:3] for name in names if name not in ("config", "study_file")),
    "nas_edge.targets",
    "nas_edge.data.sources",
    *(module for module, _ in ENGINE if module.startswith("nas_edge.cli")),
]


def _loaded_by(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


def test_what_every_command_imports_is_light() -> None:
    loaded = _loaded_by("import " + ", ".join(LIGHT))
    assert set(LIGHT) <= loaded
    assert not loaded & set(HEAVY)


@pytest.mark.parametrize("command", ["--help", "plugins", "plugins --json", "search --help", "spaces"])
def test_looking_around_imports_neither_torch_nor_onnxruntime(command: str) -> None:
    loaded = _loaded_by(f"from nas_edge.cli import main\nassert main({command.split()!r}) in (0, 2)")
    assert "nas_edge.cli.app" in loaded
    assert not loaded & set(HEAVY)


@pytest.mark.parametrize("line", ["nas-edge sho", "nas-edge show tiny ", "nas-edge search --techniques qu"])
def test_a_shell_waits_for_little(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Completion reads databases and plugins without what takes long to import."""
    monkeypatch.setenv("_NAS_EDGE_COMPLETE", "complete_zsh")
    monkeypatch.setenv("_TYPER_COMPLETE_ARGS", line)
    asked = "import contextlib\nfrom nas_edge.cli import main\nwith contextlib.suppress(SystemExit): main([])"
    loaded = _loaded_by(asked)
    assert "nas_edge.cli.complete" in loaded
    assert not loaded & {*HEAVY, "numpy"}
