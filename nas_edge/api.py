"""The command line's verbs for Python: the same words, typed results.

What the command line names, Python may give as it is: data as a `Dataset` or arrays, networks as `nn.Module`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna

from nas_edge.cli.output import console
from nas_edge.cli.progress import live_progress
from nas_edge.config import StudyConfig, make_config
from nas_edge.contracts import ImageData
from nas_edge.engine.calibration import calibrate_any
from nas_edge.engine.compress import compress_config
from nas_edge.engine.progress import Progress
from nas_edge.engine.run import run_search
from nas_edge.engine.session import Session
from nas_edge.errors import UserError
from nas_edge.latency.profile import Profile
from nas_edge.models import live_models, live_name
from nas_edge.plugins import load_plugins
from nas_edge.report.compression import Compression, run_compression
from nas_edge.report.study import Study
from nas_edge.samplers.registered import make_sampler
from nas_edge.store.locate import locate

if TYPE_CHECKING:
    from torch import nn


def search(
    file: str | Path | None = None,
    *,
    data: Any = None,
    teacher: str | nn.Module | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Study:
    """Run a search, or go on with a stored one; the options are those of `nas-edge search`.

    `nas_edge.search(data="digits", trials=40, max_latency_ms=0.5)`; `file` is a study file, which the options override.

    `data` is also a `Dataset` with a length whose items are (image, label), a pair of arrays (images, labels), an
    `ImageData`, or a mapping of "train", "validation" and "test" to such; splits that are not given are drawn. An image
    is one of PIL, uint8, or float in 0..1 `[channels, side, side]`. What is given so is stored in the study's folder,
    as a file that the command line reads too. `teacher` is also a network in evaluation mode, float32
    `[batch, channels, side, side]` in 0..1 to logits `[batch, classes]`.

    `progress` hears what happens; by default it is shown on a terminal and in a notebook. Raises `UserError` naming
    the option, its value and the remedy, and `DataError`.
    """
    path = Path(file) if file else None
    given = {**options, "data": data, "teacher": teacher}
    with _config(given, lambda named: make_config(path, named)) as config, _shown(progress) as heard:
        return Study(run_search(config, heard))


def compress(
    model: str | nn.Module,
    *,
    data: Any = None,
    teacher: str | nn.Module | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Compression:
    """Compress a model until the goals are met or the budget is spent; the options are those of `nas-edge compress`.

    `nas_edge.compress("torchvision:mobilenet_v2:weights.pt", data="folder:photos", max_drop=0.5, max_latency_ms=5.0)`.

    `model` is also a network with its weights, float32 `[batch, channels, side, side]` in 0..1 to logits
    `[batch, classes]`; it is not changed. A study of it is gone on with from Python, by the same call. `data`,
    `teacher` and `progress` are as in `search`. The files of the best model are in the study's folder, `.files`.
    Raises `UserError` naming the option, its value and the remedy, and `DataError`.
    """
    given = {**options, "data": data, "teacher": teacher, "model": model}
    with _config(given, _compression) as config, _shown(progress) as heard:
        return run_compression(config, heard)


def load_study(study: str | Path, *, storage: str | None = None, out: str | None = None) -> Study:
    """A stored study by name, folder or database file. Raises `UserError`."""
    return Study(locate(str(study), storage, out))


def calibrate(*, data: Any = None, progress: Progress | None = None, **options: Any) -> Profile:
    """A latency profile of a target; the options are those of `search`.

    With `data`, from candidates for such images; without it, for networks of any family and image size. Takes at most
    about `calibration_seconds`.
    """
    given = {**options, "data": data}
    with _config(given, lambda named: make_config(None, named)) as config, _shown(progress) as heard:
        registry = load_plugins()
        if data is None:
            return calibrate_any(config, registry, heard)
        return Session.open(config, registry).calibrate(config.calibration_seconds, heard)


def sampler(name: str, seed: int = 0) -> optuna.samplers.BaseSampler:
    """A registered sampler, which also works in a plain Optuna study of any search space. Raises `UserError`."""
    return make_sampler(load_plugins(), name, seed)


@contextmanager
def _config(options: Mapping[str, Any], make: Callable[[Mapping[str, Any]], StudyConfig]) -> Iterator[StudyConfig]:
    """The config that `make` makes of the options, with a name for each object among them; they are found in the block.

    Data that is given as an object is stored in the study's folder.
    """
    from torch import nn

    modules = {option: value for option, value in options.items() if isinstance(value, nn.Module)}
    named = {**options, **{option: live_name(module) for option, module in modules.items()}}
    data = options.get("data")
    if not isinstance(data, str | None):
        from nas_edge.data.arrays import pack

        config = make({**named, "data": "arrays"})
        if not config.study and config.model is None:
            config = make({**named, "data": "arrays", "study": _study_name(data)})
            named["study"] = config.study
        named["data"] = f"arrays:{pack(data, config.folder)}"
    config = make(named)
    if modules and (config.workers > 1 or config.on is not None):
        raise UserError(
            f"{' and '.join(modules)}, given as an object, is in this process alone; search with one worker here, or "
            "name it module:function"
        )
    with live_models({named[option]: module for option, module in modules.items()}):
        yield config


def _compression(options: Mapping[str, Any]) -> StudyConfig:
    return compress_config(options["model"], {name: value for name, value in options.items() if name != "model"})


def _study_name(data: Any) -> str:
    if isinstance(data, ImageData):
        return data.name
    return "arrays" if isinstance(data, tuple | list | Mapping) else type(data).__name__.lower()


@contextmanager
def _shown(progress: Progress | None) -> Iterator[Progress]:
    """What was given; by default the live view where somebody looks on."""
    if progress is not None:
        yield progress
    elif console.is_terminal or console.is_jupyter:
        with live_progress() as live:
            yield live
    else:
        yield Progress()
