"""The commands that make and continue studies."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas_edge.cli import complete
from nas_edge.cli.inspect import JsonFlag

if TYPE_CHECKING:
    from nas_edge.config import StudyConfig
    from nas_edge.store.study import StoredStudy

StudyArgument = Annotated[
    str,
    typer.Argument(metavar="STUDY", help="A study's name, folder or database file.", autocompletion=complete.studies),
]
StorageOption = Annotated[
    str | None,
    typer.Option(envvar="NAS_EDGE_STORAGE", show_envvar=False, help="Database URL; by default SQLite under --out."),
]
OutOption = Annotated[str | None, typer.Option(help="Folder of the study's files; by default runs/NAME.")]
TrialsOption = Annotated[int | None, typer.Option(help="Evaluated candidates in all; 40 for a new study.")]
TimeoutOption = Annotated[float | None, typer.Option(help="Stop asking for new candidates after so many seconds.")]
UntilOption = Annotated[
    str | None, typer.Option(help="End when a candidate is so good: 'accuracy >= 0.92 and latency_ms <= 2'.")
]
DataOption = Annotated[
    str | None,
    typer.Option(help="digits, fashion-mnist:ROOT, cifar10:ROOT or folder:PATH.", autocompletion=complete.datasets),
]
TargetOption = Annotated[
    str | None, typer.Option(help="Device; local, or local?threads=2.", autocompletion=complete.targets)
]
ChoicesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="Fix a decision, or narrow it to several: prune.criterion=l1,l2; or train.precision=bfloat16.",
    ),
]
GateOption = Annotated[
    bool | None,
    typer.Option("--gate/--no-gate", help="Undo steps that gain nothing or cost too much; on by default."),
]
SeedOption = Annotated[int | None, typer.Option(help="Seed of the splits, the sampler and the training.")]
TrainImagesOption = Annotated[int | None, typer.Option(help="Use only so many training images.")]
OnOption = Annotated[
    str | None,
    typer.Option(help="Run the workers on a Ray cluster: ray or ray://HOST:PORT, ?cpus=2&gpus=1 each."),
]
TrialTimeoutOption = Annotated[
    float | None, typer.Option(help="End a trial that takes longer, in seconds; by default 20 times the median.")
]
TrialMemoryOption = Annotated[
    int | None,
    typer.Option(help="End a trial whose worker takes more memory; by default 9 tenths of the machine's for all."),
]
WorkersOption = Annotated[int | None, typer.Option(help="Processes on this machine; 1 for a new study.")]


def search(
    file: Annotated[
        Path | None, typer.Argument(metavar="[STUDY.toml]", help="A study file; flags override it.")
    ] = None,
    data: DataOption = None,
    space: Annotated[
        str | None, typer.Option(help="Search space; see `nas-edge spaces`.", autocompletion=complete.spaces)
    ] = None,
    target: TargetOption = None,
    threads: Annotated[int | None, typer.Option(help="Threads of the target: short for local?threads=N.")] = None,
    trials: TrialsOption = None,
    timeout: TimeoutOption = None,
    until: UntilOption = None,
    objectives: Annotated[
        str | None, typer.Option(help="accuracy,latency_ms or accuracy,latency_ms,size_bytes.")
    ] = None,
    max_latency_ms: Annotated[float | None, typer.Option(help="Latency budget in milliseconds.")] = None,
    techniques: Annotated[
        str | None,
        typer.Option(help="Those to search over, comma-separated, or none.", autocompletion=complete.techniques),
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(help="Students learn from: largest, torchvision:NAME[:WEIGHTS] or module:function."),
    ] = None,
    choices: ChoicesOption = None,
    gate: GateOption = None,
    supernet: Annotated[
        bool | None,
        typer.Option("--supernet/--no-supernet", help="Let candidates inherit their weights; off by default."),
    ] = None,
    latency_first: Annotated[
        bool | None,
        typer.Option("--latency-first/--train-all", help="Leave out what is no match for others; on by default."),
    ] = None,
    zero_cost: Annotated[
        bool | None,
        typer.Option("--zero-cost/--no-zero-cost", help="By scores before training too, if they rank; off by default."),
    ] = None,
    early_stopping: Annotated[
        bool | None,
        typer.Option("--early-stopping/--no-early-stopping", help="End trainings that stand badly; off by default."),
    ] = None,
    max_drop: Annotated[
        float | None, typer.Option(help="Points of accuracy that one step may cost; 5 by default.")
    ] = None,
    sampler: Annotated[
        str | None,
        typer.Option(help="surrogate, evolution, ...; see `nas-edge plugins`.", autocompletion=complete.samplers),
    ] = None,
    baseline: Annotated[
        str | None, typer.Option(help="random: give random search the same budget afterwards, and compare.")
    ] = None,
    baseline_seeds: Annotated[int | None, typer.Option(help="With so many seeds; 1 by default.")] = None,
    storage: StorageOption = None,
    artifacts: Annotated[
        str | None, typer.Option(help="Where models are kept: s3://BUCKET; by default a folder under --out.")
    ] = None,
    study: Annotated[str | None, typer.Option(help="The study's name; by default that of the data set.")] = None,
    workers: WorkersOption = None,
    on: OnOption = None,
    trial_timeout: TrialTimeoutOption = None,
    trial_memory_mb: TrialMemoryOption = None,
    seed: SeedOption = None,
    out: OutOption = None,
    train_images: TrainImagesOption = None,
    samples: Annotated[int | None, typer.Option(help="Images that one candidate's training sees.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Search for the best trade-offs, or go on with a stored search up to --trials in all."""
    from nas_edge.config import make_config

    options = {
        "data": data,
        "space": space,
        "target": target,
        "threads": threads,
        "trials": trials,
        "timeout": timeout,
        "until": until,
        "objectives": names_of(objectives),
        "max_latency_ms": max_latency_ms,
        "techniques": names_of(techniques),
        "set": choices or None,
        "gate": gate,
        "supernet": supernet,
        "latency_first": latency_first,
        "zero_cost": zero_cost,
        "early_stopping": early_stopping,
        "max_drop": max_drop,
        "teacher": teacher,
        "sampler": sampler,
        "baseline": baseline,
        "baseline_seeds": baseline_seeds,
        "storage": storage,
        "artifacts": artifacts,
        "study": study,
        "workers": workers,
        "on": on,
        "trial_timeout": trial_timeout,
        "trial_memory_mb": trial_memory_mb,
        "seed": seed,
        "out": out,
        "train_images": train_images,
        "samples": samples,
    }
    _run(make_config(file, options), as_json)


def resume(
    study: StudyArgument,
    trials: TrialsOption = None,
    timeout: TimeoutOption = None,
    until: UntilOption = None,
    workers: WorkersOption = None,
    on: OnOption = None,
    trial_timeout: TrialTimeoutOption = None,
    trial_memory_mb: TrialMemoryOption = None,
    data: Annotated[str | None, typer.Option(help="Where the data lies now, if it has moved.")] = None,
    storage: StorageOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Go on with a stored study as it was configured, up to --trials in all."""
    from nas_edge.config import parse_config

    stored = located(study, storage)
    given = {"trials": trials, "timeout": timeout, "until": until, "workers": workers, "data": data}
    given |= {"on": on, "trial_timeout": trial_timeout, "trial_memory_mb": trial_memory_mb}
    values = {**stored.config.model_dump(), **{k: v for k, v in given.items() if v is not None}}
    values |= {"storage": stored.url, "out": str(stored.folder)}
    config = parse_config(values)
    if config.goals is not None:
        from nas_edge.cli.compress import run_config

        run_config(config, as_json)
        return
    _run(config, as_json)


def worker(
    study: StudyArgument,
    timeout: TimeoutOption = None,
    trial_timeout: TrialTimeoutOption = None,
    trial_memory_mb: TrialMemoryOption = None,
    data: Annotated[str | None, typer.Option(help="Where the data lies on this machine.")] = None,
    storage: StorageOption = None,
    out: Annotated[str | None, typer.Option(help="The study's folder, as this machine sees it.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Join a study that is searched elsewhere: any number of machines, to be ended at any moment."""
    import time

    from nas_edge.cli.output import emit
    from nas_edge.cli.progress import live_progress
    from nas_edge.config import parse_config
    from nas_edge.engine.workers import join
    from nas_edge.store.marks import worker_mark
    from nas_edge.store.processes import WORKER

    stored = located(study, storage, out)
    changes = {"storage": stored.url, "out": str(stored.folder), "workers": 1}
    given = {"data": data, "trial_timeout": trial_timeout, "trial_memory_mb": trial_memory_mb}
    values = {**stored.config.model_dump(), **{k: v for k, v in given.items() if v is not None}, **changes}
    config = parse_config(values)
    with live_progress() as progress:
        deadline = None if timeout is None else time.monotonic() + timeout
        stored = join(config, progress, deadline)
    trials, mark = stored.evaluated(), worker_mark()
    own = sum(t.user_attrs.get(WORKER) == mark for t in trials)
    payload = {"study": config.name, "evaluated": own, "finished": len(trials)}
    text = f"evaluated {payload['evaluated']} candidates; the study has {payload['finished']} of {config.trials}"
    emit(payload, as_json, lambda: text)


def names_of(text: str | None) -> list[str] | None:
    """`a,b` to its names; `none` to no names at all."""
    if text is None:
        return None
    return [] if text == "none" else [name.strip() for name in text.split(",") if name.strip()]


def located(study: str, storage: str | None, out: str | None = None) -> StoredStudy:
    """`store.locate.locate`, imported when a command runs."""
    from nas_edge.store.locate import locate

    return locate(study, storage, out)


def _run(config: StudyConfig, as_json: bool) -> None:
    from nas_edge.cli.output import console, emit
    from nas_edge.cli.progress import live_progress
    from nas_edge.cli.views import front_table, study_view
    from nas_edge.engine.run import run_search
    from nas_edge.report.front import front_rows
    from nas_edge.report.summary import summary

    try:
        with live_progress() as progress:
            stored = run_search(config, progress)
    except KeyboardInterrupt:
        console.print(f"Interrupted; the study is whole. Go on with the same command, or: {resume_command(config)}")
        raise
    front = front_rows(stored)
    emit(summary(stored, front), as_json, lambda: study_view(stored, front_table(front, len(front))))


def resume_command(config: StudyConfig) -> str:
    if config.storage:
        return f"nas-edge resume {config.name} --storage URL"
    return f"nas-edge resume {config.folder}"
