"""`nas-edge doctor`: what this machine has, and what is missing, with the remedy."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from packaging.requirements import Requirement

from nas_edge.agent import cpu_name, instruction_sets
from nas_edge.cli.inspect import JsonFlag
from nas_edge.cpu import VNNI
from nas_edge.plugins import OWN_DISTRIBUTION, load_plugins

if TYPE_CHECKING:
    from rich.console import RenderableType

PYTHON = (3, 11)
CPUINFO = Path("/proc/cpuinfo")
# Instruction sets that small networks gain from, as people write them.
FEATURES = {
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "avx_vnni": "AVX VNNI",
    "avx512_vnni": "AVX-512 VNNI",
    "avx512_bf16": "AVX-512 BF16",
    "amx_int8": "AMX int8",
    "amx_bf16": "AMX BF16",
    "asimd": "NEON",
    "asimddp": "NEON dot product",
    "i8mm": "NEON int8 matrix multiply",
    "bf16": "NEON BF16",
    "sve": "SVE",
}
INT8 = {*VNNI, "asimddp", "i8mm"}


def doctor(as_json: JsonFlag = False) -> None:
    """Check this machine and installation, and say what is missing."""
    from nas_edge.cli.output import emit

    python, libraries = _python(), _libraries()
    usable = {row["name"] for row in libraries if row["problem"] is None}
    report: dict[str, Any] = {
        "python": python,
        "cpu": cpu(),
        "memory": _memory(),
        "torch": _torch() if "torch" in usable else None,
        "onnxruntime": _onnxruntime() if "onnxruntime" in usable else None,
        "folders": _folders(),
        "libraries": libraries,
    }
    report["missing"], report["advice"] = _findings(report)
    emit(report, as_json, lambda: _view(report))
    if report["missing"]:
        raise typer.Exit(2)


def _python() -> dict[str, Any]:
    return {
        "version": platform.python_version(),
        "executable": sys.executable,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }


def _libraries() -> list[dict[str, Any]]:
    """Each library that nas-edge asks for: the version found, and what is wrong with it."""
    rows = []
    for text in metadata.requires(OWN_DISTRIBUTION) or []:
        wanted = Requirement(text)
        extra = re.search(r"""extra\s*==\s*["']([\w-]+)["']""", text)
        if extra and extra[1] in ("test", "lint"):
            continue
        try:
            version, problem = metadata.version(wanted.name), None
            if not wanted.specifier.contains(version, prereleases=True):
                problem = f"{wanted.name} {version} is installed, and {wanted.specifier} is needed"
        except metadata.PackageNotFoundError:
            version, problem = None, f"{wanted.name} is not installed"
        rows.append(
            {
                "name": wanted.name,
                "version": version,
                "wanted": str(wanted.specifier),
                "extra": extra[1] if extra else None,
                "problem": problem,
            }
        )
    return rows


def cpu() -> dict[str, Any]:
    """The CPU's model and features, its cores, and those that this process may use."""
    text = CPUINFO.read_text(errors="replace") if CPUINFO.exists() else ""
    return {
        "model": cpu_name(text),
        "features": instruction_sets(text),
        "logical_cpus": os.cpu_count(),
        "physical_cores": _physical_cores(text),
        "usable_cpus": sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "governor": _first_line(Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")),
    }


def _physical_cores(cpuinfo: str) -> int | None:
    """How many different (socket, core) pairs there are; None where the system does not say."""
    found = set(re.findall(r"^physical id\s*: (\d+)$[\s\S]*?^core id\s*: (\d+)$", cpuinfo, re.MULTILINE))
    return len(found) or None


def _first_line(path: Path) -> str | None:
    try:
        return path.read_text().strip() or None
    except OSError:
        return None


def _memory() -> dict[str, Any]:
    text = Path("/proc/meminfo").read_text() if Path("/proc/meminfo").exists() else ""
    kib = {key: int(value) for key, value in re.findall(r"^(\w+):\s+(\d+) kB", text, re.MULTILINE)}
    return {
        "total_gib": round(kib["MemTotal"] / 2**20, 1) if "MemTotal" in kib else None,
        "available_gib": round(kib["MemAvailable"] / 2**20, 1) if "MemAvailable" in kib else None,
    }


def _torch() -> dict[str, Any]:
    try:
        import torch
    except (ImportError, OSError) as error:
        return {"problem": f"torch is installed and does not load: {error}"}
    cuda = torch.cuda.is_available()
    return {
        "problem": None,
        "threads": torch.get_num_threads(),
        "cuda": torch.version.cuda,
        "gpu": torch.cuda.get_device_name(0) if cuda else None,
        "torchvision": _torchvision(),
    }


def _torchvision() -> str:
    """Whether torchvision's compiled operators load: its wheel may be linked against a CUDA that is not here."""
    import torch

    try:
        import torchvision
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            return f"does not load: {error}"
        return "loads without its compiled operators (wheel built for CUDA); nas-edge needs none of them"
    except (ImportError, OSError) as error:
        return f"does not load: {error}"
    compiled = hasattr(torch.ops.torchvision, "nms") and bool(torchvision.extension._has_ops())
    return "loads" if compiled else "loads without its compiled operators; nas-edge needs none of them"


def _onnxruntime() -> dict[str, Any]:
    try:
        import onnxruntime
    except (ImportError, OSError) as error:
        return {"problem": f"onnxruntime is installed and does not load: {error}"}
    return {"problem": None, "providers": list(onnxruntime.get_available_providers())}


def _folders() -> dict[str, Any]:
    """Where files are written, and whether they can be: judged by the nearest folder that exists."""
    found = {}
    for use, folder in {"runs": Path("runs").absolute(), "temporary": Path(tempfile.gettempdir())}.items():
        nearest = next(p for p in (folder, *folder.parents) if p.exists())
        writable = nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)
        free_gib = round(shutil.disk_usage(nearest).free / 2**30, 1)
        found[use] = {"folder": str(folder), "writable": writable, "free_gib": free_gib}
    return found


def _findings(report: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """What is required and missing, and what would be good to have."""
    missing, advice = [], []
    if sys.version_info < PYTHON:
        missing.append(f"Python {report['python']['version']} is too old; install 3.11 or newer")
    for row in report["libraries"]:
        if row["problem"] and row["extra"]:
            advice.append(f"{row['problem']}; pip install 'nas-edge[{row['extra']}]'")
        elif row["problem"]:
            missing.append(f"{row['problem']}; pip install '{row['name']}{row['wanted']}'")
    for name in ("torch", "onnxruntime"):
        if report[name] and report[name]["problem"]:
            missing.append(f"{report[name]['problem']}; reinstall it: pip install --force-reinstall {name}")
    for use, row in report["folders"].items():
        if not row["writable"]:
            remedy = "set TMPDIR to a folder that can" if use == "temporary" else "give searches another one with --out"
            advice.append(f"{row['folder']} cannot be written; {remedy}")
    if not INT8 & set(report["cpu"]["features"]):
        advice.append("this CPU has no int8 dot product: quantized networks may be no faster than float here")
    for broken in load_plugins().broken:
        ours = broken.distribution == OWN_DISTRIBUTION
        (missing if ours else advice).append(
            f"plugin {broken.name!r} ({broken.distribution}) is broken: {broken.reason}; see `nas-edge plugins`"
        )
    if report["cpu"]["governor"] not in (None, "performance"):
        advice.append(
            f"the CPU's frequency governor is {report['cpu']['governor']!r}: latencies vary with it; try 'performance'"
        )
    return missing, advice


def _view(report: Mapping[str, Any]) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    from nas_edge.cli.output import facts

    about = report["cpu"]
    usable = len(about["usable_cpus"] or ()) or about["logical_cpus"]
    torch, runtime, memory = report["torch"] or {}, report["onnxruntime"] or {}, report["memory"]
    found = {row["name"]: row["version"] for row in report["libraries"] if row["version"]}
    rows = {
        "Python": f"{report['python']['version']}  {report['python']['executable']}",
        "system": report["python"]["system"],
        "CPU": about["model"],
        "features": ", ".join(FEATURES[f] for f in FEATURES if f in about["features"])
        or "none of those that matter here",
        "int8": ", ".join(FEATURES[f] for f in FEATURES if f in INT8 & set(about["features"])) or "no fast path",
        "cores": f"{about['logical_cpus']} logical, {about['physical_cores'] or '?'} physical, {usable} usable here",
        "memory": f"{memory['available_gib']} of {memory['total_gib']} GiB free",
        "libraries": ", ".join(f"{name} {version}" for name, version in found.items()),
        "torch": f"{torch.get('threads', '?')} threads, {torch.get('gpu') or 'no GPU: trains on the CPU'}",
        "torchvision": torch.get("torchvision", "?"),
        "ONNX Runtime": ", ".join(runtime.get("providers", [])) or "?",
        **{f"{use} files": _folder_line(row) for use, row in report["folders"].items()},
    }
    return Group(facts(rows), Text(), *_conclusions(report["missing"], report["advice"]))


def _folder_line(row: Mapping[str, Any]) -> str:
    return f"{row['folder']}, {row['free_gib']} GiB free{'' if row['writable'] else ', cannot be written'}"


def _conclusions(missing: Sequence[str], advice: Sequence[str]) -> list[RenderableType]:
    from rich.text import Text

    lines: list[RenderableType] = [Text.assemble(("missing: ", "bold red"), text) for text in missing]
    lines += [Text.assemble(("advice: ", "bold yellow"), text) for text in advice]
    return lines if missing else [*lines, Text("Everything that nas-edge needs is here.", "green")]
