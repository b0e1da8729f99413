"""JSON and TOML from outside are bounded in size, depth and numbers."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from nas_edge.files import MAX_DEPTH, Malformed, parse_json, read_json, read_text, read_toml


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"a": ', "is not JSON: Expecting value"),
        ('{"a": 1, "a": 2}', "is not JSON: the key 'a' comes twice"),
        ("[NaN]", "is not JSON: NaN is no finite number"),
        ("-Infinity", "is not JSON: -Infinity is no finite number"),
        ("1e999", "is not JSON: 1e999 is no finite number"),
        ("9" * 5_000, "is not JSON: Exceeds the limit"),
        (str(2**63), "holds a whole number of 64 bits; the most are 64"),
        ('"\\ud800"', "holds '\\ud800', which is no Unicode text"),
        ('{"a\\u0000": 1}', "holds 'a\\x00', with a null character"),
        ("[" * 33 + "1" + "]" * 33, "is nested more than 32 levels deep"),
        ("[" * 100_000, "is not JSON: it is nested too deeply"),
    ],
)
def test_json_that_is_none_is_named(text: str, why: str) -> None:
    with pytest.raises(Malformed) as caught:
        parse_json(text)
    assert str(caught.value).startswith(why)


def test_what_json_has_is_read() -> None:
    value = {"a": [1, -(2**62), 0.5, None, True, "\U0001f98a"], "": {}}
    assert parse_json(json.dumps(value)) == value
    deepest = "[" * MAX_DEPTH + "1" + "]" * MAX_DEPTH
    assert json.dumps(parse_json(deepest)) == deepest


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a = ", "is not TOML: Invalid value"),
        ("a = " + "9" * 5_000, "is not TOML: Exceeds the limit"),
        ("a = 2" + "0" * 30, "holds a whole number of 101 bits"),
        ("a = " + "[" * 5_000, "is not TOML: "),
        ("a." * 50 + "b = 1", "is nested more than 32 levels deep"),
        ("a." * 400_000 + "b = 1", "has more than 200 dots in line 1"),
        ("a = " + "'" + "b" * 1_000_000, "is larger than 1,000,000 bytes"),
    ],
)
def test_toml_that_is_none_is_named_soon(text: str, why: str, tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text(text)
    start = time.monotonic()
    with pytest.raises(Malformed) as caught:
        read_toml(path)
    assert str(caught.value).startswith(why) and time.monotonic() - start < 5


def test_files_are_read_no_further_than_their_limit() -> None:
    with pytest.raises(Malformed, match="is larger than 1,000 bytes"):
        read_text(Path("/dev/zero"), 1_000)


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b'{"a": "\xff"}')
    with pytest.raises(Malformed, match="is not UTF-8: invalid start byte at byte 7"):
        read_json(path)
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert read_json(path) == {"a": 1}
