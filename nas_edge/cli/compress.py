"""`nas-edge compress`: the user's own model, until the goals are met."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from nas_edge.cli import complete
from nas_edge.cli.inspect import JsonFlag
from nas_edge.cli.study import (
    ChoicesOption,
    DataOption,
    GateOption,
    OutOption,
    SeedOption,
    StorageOption,
    TargetOption,
    TimeoutOption,
    TrainImagesOption,
    TrialMemoryOption,
    TrialTimeoutOption,
    names_of,
    resume_command,
)

if TYPE_CHECKING:
    from nas_edge.config import StudyConfig


def compress(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="torchvision:NAME[:WEIGHTS.pt] or module:function[:WEIGHTS.pt].")
    ],
    data: DataOption = None,
    target: TargetOption = None,
    max_drop: Annotated[
        float | None, typer.Option(help="Goal: lose at most so many points of accuracy; 0.5 by default.")
    ] = None,
    max_latency_ms: Annotated[float | None, typer.Option(help="Goal: take at most so many milliseconds.")] = None,
    min_speedup: Annotated[float | None, typer.Option(help="Goal: be at least so many times as fast.")] = None,
    min_size_reduction: Annotated[
        float | None, typer.Option(help="Goal: a file that is at least so many per cent smaller.")
    ] = None,
    trials: Annotated[int | None, typer.Option(help="At most so many candidates; 40 for a new study.")] = None,
    timeout: TimeoutOption = None,
    techniques: Annotated[
        str | None, typer.Option(help="Those to search over, comma-separated.", autocompletion=complete.techniques)
    ] = None,
    choices: ChoicesOption = None,
    gate: GateOption = None,
    teacher: Annotated[
        str | None, typer.Option(help="Who distillation learns from; by default the model as it was given.")
    ] = None,
    sampler: Annotated[str | None, typer.Option(help="surrogate, evolution, ...; see `nas-edge plugins`.")] = None,
    storage: StorageOption = None,
    study: Annotated[str | None, typer.Option(help="The study's name; by default those of model and data.")] = None,
    trial_timeout: TrialTimeoutOption = None,
    trial_memory_mb: TrialMemoryOption = None,
    seed: SeedOption = None,
    out: OutOption = None,
    train_images: TrainImagesOption = None,
    samples: Annotated[int | None, typer.Option(help="Images that one candidate's recovery training sees.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Compress a model until goals are met, or the trials are spent: then it says which goal is missed, by how much.

    Exit status 0 in both cases; `met` in --json tells them apart. The best model's files are written to --out. The
    same command goes on with a stored study.
    """
    from nas_edge.engine.compress import compress_config

    options = {
        "data": data,
        "target": target,
        "max_drop": max_drop,
        "max_latency_ms": max_latency_ms,
        "min_speedup": min_speedup,
        "min_size_reduction": min_size_reduction,
        "trials": trials,
        "timeout": timeout,
        "techniques": names_of(techniques),
        "set": choices or None,
        "gate": gate,
        "teacher": teacher,
        "sampler": sampler,
        "storage": storage,
        "study": study,
        "trial_timeout": trial_timeout,
        "trial_memory_mb": trial_memory_mb,
        "seed": seed,
        "out": out,
        "train_images": train_images,
        "samples": samples,
    }
    run_config(compress_config(model, options), as_json)


def run_config(config: StudyConfig, as_json: bool) -> None:
    """Run or go on with a compression and say what it reached."""
    from nas_edge.cli.goals import compression_view
    from nas_edge.cli.output import console, emit
    from nas_edge.cli.progress import live_progress
    from nas_edge.report.compression import compression_summary, run_compression

    try:
        with live_progress() as progress:
            found = run_compression(config, progress)
    except KeyboardInterrupt:
        console.print(f"Interrupted; the study is whole. Go on with the same command, or: {resume_command(config)}")
        raise
    emit(compression_summary(found), as_json, lambda: compression_view(found))
