"""Damages valid values and files: what a disk, another program or somebody with ill intent could make of them."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

Path = tuple[str | int, ...]


def nested(depth: int, *, as_list: bool) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value] if as_list else {"a": value}
    return value


ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, -(2**63), 2**64, 10**400, -(10**400)),
    *(0.5, -0.0, 1e-320, 1e308, -1e308, float("nan"), float("inf"), float("-inf")),
    *("", " ", "\0", "a\0b", "\ud800", "é", "\u202e", "\U0001f98a" * 40, "a" * 20_000, "\x1b[31m", "a\nb"),
    *("..", ".", "/", "../../../../etc/passwd", "/etc/passwd", "~root", "CON", "C:\\x", "file:///etc/passwd"),
    *("[bold]x[/bold]", "[/]", "%s%n{0}", "<script>alert(1)</script>", "-", "--help", "a:b:c", "1e999", "NaN"),
    *([], {}, [[]], [None], {"a": {}}, {"": 0}, [1] * 1_000, nested(40, as_list=True), nested(40, as_list=False)),
    *({"a.b": {"c.d": 1}}, list(range(50)), {str(i): i for i in range(500)}),
)
BYTES = (b"\0", b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf")
INSERTED = (*BYTES, b"{", b"]" * 3, b"[" * 3_000, b'"', b"\\u0000", b"1e999", b"-", b"9" * 5_000, b"a." * 20_000)
anything = st.one_of(st.sampled_from(ODD).map(copy.deepcopy), st.integers(), st.floats(), st.text(max_size=20))


def paths(value: Any, at: Path = ()) -> Iterator[Path]:
    """Where there is something in a value: keys and positions from the top."""
    inner = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for key, below in inner:
        yield (*at, key)
        yield from paths(below, (*at, key))


@st.composite
def damaged_value(draw: DrawFn, value: Any) -> Any:
    """A value with one to three of its parts replaced, removed, renamed, added to or swapped."""
    value = copy.deepcopy(value)
    for _ in range(draw(st.integers(1, 3))):
        places = list(paths(value))
        if not places:
            return draw(anything)
        *above, last = draw(st.sampled_from(places))
        parent = value
        for key in above:
            parent = parent[key]
        match draw(st.sampled_from(("replace", "replace", "replace", "remove", "rename", "add", "swap", "wrap"))):
            case "replace":
                parent[last] = draw(anything)
            case "remove":
                del parent[last]
            case "rename" if isinstance(parent, dict):
                parent[draw(st.one_of(st.text(max_size=8), st.sampled_from(("..", "a.b", "\0", "a" * 5_000))))] = (
                    parent.pop(last)
                )
            case "add" if isinstance(parent, dict):
                parent[draw(st.text(max_size=8))] = draw(anything)
            case "add":
                parent.append(draw(anything))
            case "swap":
                source: Any = value
                for key in draw(st.sampled_from(places)):
                    source = source[key]
                if not isinstance(source, dict | list):
                    parent[last] = source
            case _:
                parent[last] = [parent[last]]
    return value


@st.composite
def damaged_bytes(draw: DrawFn, content: bytes) -> bytes:
    """A file that is cut off, or in which bytes are flipped, put in, left out, or come twice."""
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, max(len(content) - 1, 0)))
        length = draw(st.integers(1, 40))
        match draw(st.sampled_from(("cut", "flip", "flip", "put", "drop", "double", "random"))):
            case "cut":
                content = content[:place]
            case "flip" if content:
                flipped = content[place] ^ (1 << draw(st.integers(0, 7)))
                content = content[:place] + bytes([flipped]) + content[place + 1 :]
            case "put":
                content = content[:place] + draw(st.sampled_from(INSERTED)) + content[place:]
            case "drop":
                content = content[:place] + content[place + length :]
            case "double":
                content = content[: place + length] + content[place:]
            case _:
                content = content[:place] + draw(st.binary(min_size=1, max_size=16)) + content[place + length :]
    return content


@st.composite
def damaged_json(draw: DrawFn, value: Any) -> bytes:
    """JSON that was damaged as a value, as a text, or both."""
    as_text = draw(st.booleans())
    if draw(st.booleans()) or not as_text:
        value = draw(damaged_value(value))
    content = written(value, toml=False).encode(errors="surrogatepass")
    if draw(st.integers(0, 9)) == 0:  # a key that comes twice
        content = content.replace(b"{", b'{"format": 0, "spec": 0, "command": "quit", ', 1)
    return draw(damaged_bytes(content)) if as_text else content


@st.composite
def damaged_toml(draw: DrawFn, value: Mapping[str, Any]) -> bytes:
    """Likewise TOML."""
    as_text = draw(st.integers(0, 2)) == 0
    changed = draw(damaged_value(dict(value))) if draw(st.booleans()) or not as_text else value
    tables = changed if isinstance(changed, dict) else {"study": changed}
    lines = [f"{json.dumps(k)} = {written(v, toml=True)}" for k, v in tables.items()]
    content = "\n".join(lines).encode(errors="surrogatepass") + b"\n"
    return draw(damaged_bytes(content)) if as_text else content


def written(value: Any, *, toml: bool) -> str:
    """A value as JSON or TOML, also one that either has no word for: it is to be refused, not left out."""
    parts: list[str] = []
    stack: list[Any] = [value]  # no recursion: values are nested deeper than the interpreter goes
    while stack:
        top = stack.pop()
        if isinstance(top, _Text):
            parts.append(top)
        elif isinstance(top, Mapping):
            equals, inner = "=" if toml else ":", [_Text("}")]
            for i, (key, below) in enumerate(reversed(list(top.items()))):
                inner += [below, _Text(json.dumps(key) + equals), _Text("," if i < len(top) - 1 else "")]
            stack += [*inner, _Text("{")]
        elif isinstance(top, list | tuple):
            inner = [_Text("]")]
            for i, below in enumerate(reversed(top)):
                inner += [below, _Text("," if i < len(top) - 1 else "")]
            stack += [*inner, _Text("[")]
        elif isinstance(top, float) and toml:
            parts.append(repr(top))
        elif isinstance(top, int) and not isinstance(top, bool):
            parts.append(f"{top:d}")
        else:
            parts.append(json.dumps(top))
    return "".join(parts)


class _Text(str):
    """What is written as it stands."""
