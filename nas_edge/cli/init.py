"""`nas-edge init`: a study file from a few questions."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas_edge.cli import complete
from nas_edge.cli.inspect import JsonFlag
from nas_edge.cli.study import DataOption, TargetOption, names_of
from nas_edge.errors import NasEdgeError, StorageError, UserError

if TYPE_CHECKING:
    from nas_edge.contracts import ImageData
    from nas_edge.plugins import Registry

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
BUDGET = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd]?)")
MOST_TRIALS = 10_000  # where the time is to decide
NONE, ALL, DEFAULT = "none", "all", "default"


@dataclass(frozen=True)
class Question:
    """What is asked, the answer of Enter, and how an answer becomes options of a study.

    `values` raises `UserError` for an answer that will not do.
    """

    name: str
    text: str
    default: str
    values: Callable[[str], Mapping[str, Any]]


def init(
    file: Annotated[Path, typer.Argument(metavar="[FILE]", help="The study file to write.")] = Path("study.toml"),
    data: DataOption = None,
    target: TargetOption = None,
    max_latency_ms: Annotated[str | None, typer.Option(help="Latency budget in milliseconds, or none.")] = None,
    budget: Annotated[str | None, typer.Option(help="Trials such as 40, or a time such as 30m, 2h or 1d.")] = None,
    techniques: Annotated[
        str | None,
        typer.Option(
            help="Those to search over, comma-separated, or default, all or none.", autocompletion=complete.techniques
        ),
    ] = None,
    study: Annotated[str | None, typer.Option(help="The study's name; by default that of the data set.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing: defaults for what is not given.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the file where it is there.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Ask a few questions, and write a study file with comments for `nas-edge search`."""
    from nas_edge.cli.output import console, emit
    from nas_edge.config import parse_config
    from nas_edge.plugins import load_plugins
    from nas_edge.study_file import study_text

    given = {
        "data": data,
        "target": target,
        "max_latency_ms": max_latency_ms,
        "budget": budget,
        "techniques": techniques,
        "study": study,
    }
    missing = [f"--{name.replace('_', '-')}" for name, value in given.items() if value is None]
    asks = bool(missing) and not yes
    if asks and not sys.stdin.isatty():
        raise UserError(f"standard input is no terminal to ask on; give --yes for defaults, or {', '.join(missing)}")
    values: dict[str, Any] = {}
    with _end_of_input():
        if file.exists() and not force and not (asks and _confirmed(f"{file} is there already. Replace it?")):
            raise UserError(f"{file} is there already; give another name, or --force to replace it")
        for question in _questions(load_plugins(), values):
            answer = given[question.name]
            if answer is None and asks:
                values |= _asked(question)
            else:
                values |= question.values(question.default if answer is None else answer)
    config = parse_config(values)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(study_text(config), encoding="utf-8")
    except OSError as error:
        raise StorageError(f"{file} cannot be written: {error.strerror}; choose another name") from None
    console.print()
    text = f"wrote {file}\nnext: nas-edge search {file}"
    emit({"file": str(file), **{name: getattr(config, name) for name in values}}, as_json, lambda: text)


def _questions(registry: Registry, values: Mapping[str, Any]) -> Iterator[Question]:
    """In their order: a default may follow from what was answered before, which is in `values`."""
    from nas_edge.config import StudyConfig, parse_config

    default = {name: field.get_default() for name, field in StudyConfig.model_fields.items()}
    kinds = ", ".join(name + ":PATH" * source.needs_location for name, source in registry.datasets.items())
    yield Question("data", f"Data ({kinds})", default["data"], lambda answer: _data(registry, answer))
    known = ", ".join([*registry.targets, *complete.named_targets("")])
    yield Question("target", f"Target ({known})", default["target"], lambda answer: _target(registry, answer))
    yield Question("max_latency_ms", "Latency budget in ms, or none", NONE, _latency)
    yield Question(
        "budget", "How long: trials such as 40, or a time such as 30m, 2h or 1d", str(default["trials"]), _budget
    )
    from nas_edge.engine.candidates import default_techniques  # only here: torch takes a while to load

    considered = ", ".join(default_techniques(StudyConfig(), registry))
    yield Question(
        "techniques",
        f"Techniques: default ({considered}), all, none, or some of {', '.join(registry.techniques)}",
        DEFAULT,
        lambda answer: _techniques(registry, answer),
    )
    name = parse_config(values).name
    yield Question("study", "Name of the study", name, lambda answer: {"study": parse_config({"study": answer}).study})


def _asked(question: Question) -> Mapping[str, Any]:
    """The answer on the terminal, asked for again where it will not do."""
    from rich.prompt import Prompt
    from rich.text import Text

    from nas_edge.cli.output import console

    while True:
        shown = Text.assemble((question.text, "bold"), f" [{question.default}]")
        answer = Prompt.ask(shown, console=console, default=question.default, show_default=False)
        try:
            return question.values(answer.strip() or question.default)
        except NasEdgeError as error:
            console.print(Text(str(error), "red"))


def _confirmed(text: str) -> bool:
    from rich.prompt import Confirm

    from nas_edge.cli.output import console

    return Confirm.ask(text, console=console, default=False)


@contextmanager
def _end_of_input() -> Iterator[None]:
    try:
        yield
    except EOFError:
        raise UserError("the input ended before all was answered; give --yes for defaults") from None


def _data(registry: Registry, answer: str) -> Mapping[str, Any]:
    """Read at once: what cannot be is better said now."""
    from nas_edge.cli.output import console
    from nas_edge.data import load_data

    with console.status(f"reading {answer}"):
        found = load_data(registry.datasets, answer, seed=0)
    console.print(_described(found), markup=False, style="dim")
    return {"data": answer}


def _described(data: ImageData) -> str:
    images = f"{len(data.train):,} / {len(data.validation):,} / {len(data.test):,}"
    skipped = f"; {len(data.skipped)} files do not decode" if data.skipped else ""
    size = f"{data.channels} x {data.resolution} x {data.resolution}"
    return f"{len(data.classes)} classes, images of {size}: {images} to train, validate and test{skipped}"


def _target(registry: Registry, answer: str) -> Mapping[str, Any]:
    from nas_edge.targets.address import parse_target

    parse_target(registry.targets, answer)
    return {"target": answer}


def _latency(answer: str) -> Mapping[str, Any]:
    if answer == NONE:
        return {}
    try:
        value = float(answer.removesuffix("ms"))
    except ValueError:
        raise UserError(f"the latency budget is {answer!r}; give milliseconds such as 0.5, or none") from None
    from nas_edge.config import parse_config

    return {"max_latency_ms": parse_config({"max_latency_ms": value}).max_latency_ms}


def _budget(answer: str) -> Mapping[str, Any]:
    from nas_edge.config import parse_config

    found = BUDGET.fullmatch(answer)
    number, unit = (found[1], found[2]) if found else ("", "")
    if not found or (not unit and "." in number):
        raise UserError(f"the budget is {answer!r}; give trials such as 40, or a time such as 30m, 2h or 1d")
    given = {"timeout": float(number) * SECONDS[unit], "trials": MOST_TRIALS} if unit else {"trials": int(number)}
    parse_config(given)
    return given


def _techniques(registry: Registry, answer: str) -> Mapping[str, Any]:
    if answer == DEFAULT:
        return {}
    names = [*registry.techniques] if answer == ALL else names_of(answer)
    for name in names or []:
        registry.find("technique", name)
    return {"techniques": names}
