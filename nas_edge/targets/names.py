"""The targets that a user gave names to, in `nas_edge/targets.toml` under $XDG_CONFIG_HOME or ~/.config."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from nas_edge.errors import UserError, unknown_name
from nas_edge.files import read_toml, toml_value


@dataclass(frozen=True)
class Named:
    """A target's address, and its CPU and ONNX Runtime in words, as they were when it was named."""

    address: str
    device: str = ""


def names_file() -> Path:
    config = os.environ.get("XDG_CONFIG_HOME")
    return (Path(config) if config else Path.home() / ".config") / "nas_edge" / "targets.toml"


def load_names() -> dict[str, Named]:
    """All names. Raises `UserError` where the file is damaged."""
    path = names_file()
    try:
        tables = read_toml(path)
        return {name: _named(table) for name, table in tables.items()}
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (ValueError, OSError) as error:
        raise UserError(f"{path}: cannot be read ({error}); mend it, or remove it and add the targets again") from None


def save_name(name: str, named: Named) -> None:
    """Add a name or replace what it stood for."""
    _save({**load_names(), name: named})


def remove_name(name: str) -> Named:
    """Forget a name; what it stood for. Raises `UserError` with the nearest name where there is none."""
    names = load_names()
    if name not in names:
        raise unknown_name("target", name, names)
    _save({other: named for other, named in names.items() if other != name})
    return names[name]


def _named(table: object) -> Named:
    match table:
        case {"address": str(address), **others} if address:
            return Named(address, str(others.get("device", "")))
    raise ValueError("each target is a table with an address")


def _save(names: Mapping[str, Named]) -> None:
    """Write the file; a reader never sees half of it."""
    path = names_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    tables = (
        f"[{name}]\n" + "".join(f"{k} = {toml_value(v)}\n" for k, v in asdict(named).items())
        for name, named in sorted(names.items())
    )
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    temporary.write_text("\n".join(tables), encoding="utf-8")
    temporary.replace(path)
