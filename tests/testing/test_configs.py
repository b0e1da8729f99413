"""What the kit knows to be wrong for a config without being told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from nas_edge.testing.configs import fields_without_text


@dataclass(frozen=True)
class Every:
    number: float = 1.0
    perhaps: int | None = None
    switch: bool = False
    named: Literal["l1", "l2"] = "l1"
    several: list[int] = field(default_factory=list)
    text: str = ""
    perhaps_text: str | None = None
    texts: tuple[str, ...] = ()
    anything: Any = None
    made: int = field(default=0, init=False)


@dataclass(frozen=True)
class Unresolved:
    number: NoSuchName = 1  # type: ignore[name-defined]  # noqa: F821


def test_a_text_is_wrong_where_the_annotation_has_no_place_for_it() -> None:
    assert fields_without_text(Every) == ["number", "perhaps", "switch", "named", "several"]
    assert fields_without_text(Unresolved) == []
