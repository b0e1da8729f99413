"""Text from outside, bounded: JSON and TOML of a known size and depth, with whole numbers that fit into 64 bits."""

from __future__ import annotations

import json
import math
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

MAX_TOML_BYTES = 1_000_000
MAX_JSON_BYTES = 64 << 20  # a profile of thousands of kernels takes some hundred kilobytes
MAX_DEPTH = 32
MAX_DOTS = 200  # in a line of TOML: tomllib takes a time that grows with the square of a dotted key's parts
INT_BITS = 64


class Malformed(ValueError):
    """A text that is not what it should be. The message goes on after its name: `is not JSON: ...`."""


def read_text(path: Path, most_bytes: int) -> str:
    """A file in UTF-8. Raises `Malformed` where it is larger or no text, and `OSError`."""
    try:
        with path.open("rb") as file:
            content = file.read(most_bytes + 1)  # not by its size: that of a pipe or a device is 0
    except ValueError:  # a null byte in the name
        raise Malformed("has a name that no file can have") from None
    if len(content) > most_bytes:
        raise Malformed(f"is larger than {most_bytes:,} bytes")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Malformed(f"is not UTF-8: {error.reason} at byte {error.start}") from None


def read_json(path: Path) -> Any:
    """The value in a JSON file. Raises `Malformed` and `OSError`."""
    return parse_json(read_text(path, MAX_JSON_BYTES))


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file. Raises `Malformed` and `OSError`."""
    text = read_text(path, MAX_TOML_BYTES)
    for number, line in enumerate(text.split("\n"), start=1):
        if line.count(".") > MAX_DOTS:
            raise Malformed(f"has more than {MAX_DOTS} dots in line {number}; break it up")
    try:
        tables = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # int() refuses thousands of digits by a plain ValueError
        raise Malformed(f"is not TOML: {_said(error)}") from None
    check_bounds(tables)
    return tables


def parse_json(text: str) -> Any:
    """The value of a JSON text. Raises `Malformed`, also for a key that comes twice and for NaN and Infinity."""
    try:
        value = json.loads(text, parse_constant=_finite, parse_float=_finite, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"is not JSON: {_said(error)}") from None
    check_bounds(value)
    return value


def check_bounds(value: object) -> None:
    """Raise `Malformed` for what is nested too deeply, a number beyond 64 bits, and text that is none."""
    layer: list[object] = [value]
    for _ in range(MAX_DEPTH + 1):
        for one in layer:
            _check_scalar(one)
        layer = [inner for one in layer for inner in _inside(one)]
        if not layer:
            return
    raise Malformed(f"is nested more than {MAX_DEPTH} levels deep")


def toml_value(value: object) -> str:
    """A value as TOML has it, in one line. Raises `TypeError` for what TOML has no word for, such as None."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):  # JSON's strings are TOML's, but for pairs of surrogates and this one character
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml_value, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{toml_value(str(k))} = {toml_value(v)}' for k, v in value.items())}}}"
    raise TypeError(f"TOML has no {type(value).__name__}")


def _inside(value: object) -> Iterator[object]:
    if isinstance(value, Mapping):
        yield from value.keys()
        yield from value.values()
    elif isinstance(value, list | tuple):
        yield from value


def _check_scalar(value: object) -> None:
    if isinstance(value, str):
        if "\0" in value:  # no name of a file, of a study or of a layer can have it
            raise Malformed(f"holds {value[:40]!a}, with a null character")
        try:
            value.encode()
        except UnicodeEncodeError:
            raise Malformed(f"holds {value[:40]!a}, which is no Unicode text") from None
    elif isinstance(value, int) and value.bit_length() >= INT_BITS:
        raise Malformed(f"holds a whole number of {value.bit_length()} bits; the most are {INT_BITS}")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:40]} is no finite number")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"the key {twice[:80]!r} comes twice")
    return found


def _said(error: BaseException) -> str:
    text = " ".join(str(error).split())[:200]
    return "it is nested too deeply" if isinstance(error, RecursionError) else text
