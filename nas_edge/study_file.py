"""A study's config as a TOML file to read and to change: each option with what it is, and with its default."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from nas_edge.config import StudyConfig
from nas_edge.files import toml_value

COMPRESSION = ("model", "goals")  # those of `nas-edge compress`, which a search has no use for
WIDTH = 100
HEAD = """\
A study of nas-edge. Run it, and go on with it after an interrupt, with: nas-edge search FILE
Flags of the command go before what stands here. Lines that begin with "# " and have a "=" are options at their
default, or an example of what they may be: take the "# " away to set them.\
"""


def study_text(config: StudyConfig) -> str:
    """The file of a config: what was given stands in it, all else as a comment. Read again it is the same config."""
    tables = [name for name, field in StudyConfig.model_fields.items() if _is_table(field)]
    plain = [name for name in StudyConfig.model_fields if name not in (*COMPRESSION, *tables)]
    given = sorted(plain, key=lambda name: name not in config.model_fields_set)  # what was chosen comes first
    lines = [f"# {line}" for line in HEAD.splitlines()]
    for name in given:
        lines += ["", *_option(config, name)]
    for name in tables:
        lines += ["", *_table(config, name)]
    return "\n".join(lines) + "\n"


def _is_table(field: FieldInfo) -> bool:
    return isinstance(field.get_default(), dict | BaseModel)


def _table(config: StudyConfig, name: str) -> Iterator[str]:
    field, value = StudyConfig.model_fields[name], getattr(config, name)
    yield from _comment(field)
    yield f"[{name}]"
    if isinstance(value, BaseModel):
        for inner in type(value).model_fields:
            yield ""
            yield from _option(value, inner)
        return
    shown = value or (field.examples or [{}])[0]
    yield from (("" if value else "# ") + f"{toml_value(key)} = {toml_value(one)}" for key, one in shown.items())


def _option(config: BaseModel, name: str) -> Iterator[str]:
    """What it is, and its line: a comment where it was not given."""
    field, value = type(config).model_fields[name], getattr(config, name)
    yield from _comment(field)
    if name in config.model_fields_set and value is not None:
        yield f"{name} = {toml_value(value)}"
        return
    shown = field.examples[0] if field.examples else field.get_default()
    note = "  # an example; not set by default" if field.get_default() is None else ""
    yield f"# {name} = {toml_value(shown)}{note}"


def _comment(field: FieldInfo) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(f"{field.description}", WIDTH)]
