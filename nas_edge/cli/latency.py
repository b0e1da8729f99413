"""The commands that measure and predict a model's latency."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas_edge.cli import complete
from nas_edge.cli.inspect import JsonFlag
from nas_edge.errors import ModelError, UserError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from nas_edge.contracts import Target
    from nas_edge.latency.profile import Profile
    from nas_edge.records import Measurement, Prediction

DEVICE = "Device: local, ssh://user@host, either with ?threads=2 or other options, or a name that was added."
TOP_KERNELS = 10


def measure(
    model: Annotated[Path, typer.Argument(help="ONNX file.")],
    target: Annotated[str, typer.Option(help=DEVICE, autocompletion=complete.targets)] = "local",
    threads: Annotated[int | None, typer.Option(help="Threads that ONNX Runtime may use.")] = None,
    seconds: Annotated[float, typer.Option(help="Time to spend.", min=0.1, max=3600)] = 3.0,
    as_json: JsonFlag = False,
) -> None:
    """Measure a model's latency on a target, at batch 1: in fresh processes, on random images."""
    from nas_edge.cli.output import emit, facts
    from nas_edge.onnx_files import in_one_file

    with in_one_file(_model_file(model)) as file:
        result = _target(target, threads).measure(file, seconds)
    payload = {"model": str(model), **asdict(result)}
    emit(payload, as_json, lambda: facts(_measured(result)))


def predict(
    models: Annotated[list[Path], typer.Argument(help="ONNX files, or folders of them.")],
    target: Annotated[str, typer.Option(help="Device, or a profile file that `calibrate -o` wrote.")] = "local",
    threads: Annotated[int | None, typer.Option(help="Threads that ONNX Runtime may use.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Predict models' latency on a calibrated target, without running them."""
    from nas_edge.cli.output import emit
    from nas_edge.onnx_files import read_onnx

    paths = _model_files(models)
    profile = _profile(target, threads)
    predictions = [profile.predict(read_onnx(path)) for path in paths]
    rows = [{"path": str(path), **asdict(p)} for path, p in zip(paths, predictions, strict=True)]
    several = len(models) > 1 or models[0].is_dir()
    payload: dict[str, Any] = {"target": profile.target, "error": asdict(profile.error)}
    payload |= {"predictions": rows} if several else rows[0]
    emit(payload, as_json, lambda: _predicted(paths, predictions))


def _target(address: str, threads: int | None) -> Target:
    """The target at an address; `--threads` is the option of that name in it."""
    from nas_edge.plugins import load_plugins
    from nas_edge.targets.address import parse_target

    if threads is not None:
        if "threads=" in address:
            raise UserError(f"--threads {threads} and the target {address!r} both give threads; leave one out")
        address += f"{'&' if '?' in address else '?'}threads={threads}"
    return parse_target(load_plugins().targets, address)


def _profile(target: str, threads: int | None) -> Profile:
    """The profile in a file of that name, or the one kept for the target of that address."""
    from nas_edge.latency.profile import Profile, default_path

    file = Path(target)
    if file.suffix == ".json" or file.is_file():
        if threads is not None:
            raise UserError(f"--threads {threads}: the profile {target} is of a fixed number of threads; leave it out")
        return Profile.load(file)
    device = _target(target, threads)
    fingerprint = device.fingerprint()
    kept = default_path(fingerprint)
    if not kept.exists():
        raise UserError(
            f"target {device.name!r} has no profile yet; `nas-edge calibrate --target {device.name}` makes it"
        )
    profile = Profile.load(kept)
    profile.check(fingerprint)
    return profile


def _model_file(path: Path) -> Path:
    if not path.is_file():
        raise ModelError(f"{path}: no such file; give the path of an ONNX file")
    return path


def _model_files(paths: Sequence[Path]) -> list[Path]:
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(path.glob("*.onnx"))
            if not inside:
                raise ModelError(f"{path}: this folder holds no .onnx file")
            files.extend(inside)
        else:
            files.append(_model_file(path))
    return files


def _measured(result: Measurement) -> dict[str, str]:
    """The figures first, then what they hold for."""
    from nas_edge.cli.targets import in_words

    world = result.fingerprint
    return {
        "median": f"{result.p50_ms:.4g} ms  (95 % interval {result.low_ms:.4g} to {result.high_ms:.4g})",
        "90 % of runs": f"at most {result.p90_ms:.4g} ms",
        "from": _spread(result),
        "target": f"{result.target}: {in_words(world)}",
        "instruction sets": " ".join(world.get("instruction_sets") or ["unknown"]),
        "set-up": f"affinity {_listed(world.get('affinity'))}, governor {world.get('governor') or 'unknown'}, "
        f"load {world.get('load', 'unknown')}",
        "doubt": result.unstable_because or "none",
    }


def _spread(result: Measurement) -> str:
    """How the runs were taken, as far as the target says."""
    parts = [f"{result.samples} runs"]
    if result.visits is not None and result.processes is not None:
        several = "es" if result.processes > 1 else ""
        parts.append(f"in {result.visits} visits to {result.processes} process{several}")
    if result.speed is not None:
        parts.append(f"at {result.speed:.0%} of the usual speed, which the median is for")
    return " ".join(parts)


def _listed(cores: Sequence[int] | None) -> str:
    return ("core " if len(cores) == 1 else "cores ") + ", ".join(map(str, cores)) if cores else "none"


def _doubts(prediction: Prediction) -> str:
    """Why a prediction is not to be relied on; empty where it is."""
    unsupported = f"unknown kernels: {', '.join(prediction.unsupported)}" if prediction.unsupported else ""
    return "; ".join(reason for reason in (unsupported, prediction.outside) if reason)


def _predicted(paths: Sequence[Path], predictions: Sequence[Prediction]) -> RenderableType:
    """A row a model; the dearest kernels too where there is only one."""
    from rich.console import Group

    from nas_edge.cli.output import table

    models = table("model", ">ms", ">low", ">high", "to measure instead, for")
    for path, p in zip(paths, predictions, strict=True):
        models.add_row(str(path), f"{p.ms:.3f}", f"{p.low_ms:.3f}", f"{p.high_ms:.3f}", _doubts(p) or "-")
    if len(paths) > 1:
        return models
    kernels = table("kernel", "kind", ">ms", ">share")
    for kernel in sorted(predictions[0].kernels, key=lambda k: -k.ms)[:TOP_KERNELS]:
        kernels.add_row(kernel.name, kernel.kind, f"{kernel.ms:.4f}", f"{kernel.ms / predictions[0].ms:.0%}")
    return Group(models, "", kernels)
