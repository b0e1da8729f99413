"""What comes in from outside, damaged: strategies of cases by kind, made of a corpus of sound ones."""

from __future__ import annotations

import base64
import copy
import functools
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from nas_edge import agent
from nas_edge.latency.graph import kernels_of
from nas_edge.latency.heldout import HeldOutError
from nas_edge.latency.model import LatencyModel, NetworkCorrection, ShapeCorrection
from nas_edge.latency.profile import Profile
from nas_edge.plugins import load_plugins
from nas_edge.targets.references import reference_models

from ..studies import tiny_values
from .arrays import damaged_arrays
from .damage import anything, damaged_bytes, damaged_json, damaged_toml, damaged_value, written
from .networks import SOUND, damaged_model

STORED, FOLDER, TRIAL = "stored", "case", "0"  # the study beside the cases, where their files go, its trial
PROFILE, MODEL = "sound.json", "sound.onnx"
RECIPE, REQUESTS, REPLIES = "recipe.json", "requests", "replies"  # the files that do not go to the command line


@dataclass(frozen=True)
class Case:
    """Files by their names under `FOLDER`, and the arguments of the command that reads them.

    `RECIPE` takes the place of that of the stored study's trial, `REQUESTS` is what an agent is sent, `REPLIES` what
    the target `replayed` answers.
    """

    kind: str
    arguments: tuple[str, ...]
    files: Mapping[str, bytes] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        files = {name: base64.b64encode(content).decode() for name, content in self.files.items()}
        return {**asdict(self), "files": files}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Case:
        files = {name: base64.b64decode(content) for name, content in value["files"].items()}
        return cls(value["kind"], tuple(value["arguments"]), files)


# --- what is sound


@functools.cache
def sound_profile() -> Profile:
    """One that knows the networks of the corpus, with each kind of correction."""
    import numpy as np

    kernels = [kernel for model in SOUND.values() for kernel in kernels_of(model).kernels]
    prices = {k.kind: dict.fromkeys(k.features, 1e-3) for k in kernels}
    by_kind = {k.kind: np.log2([k.dims]) for k in kernels}
    shapes = {kind: ShapeCorrection(0.01, logs, np.array([0.02])) for kind, logs in list(by_kind.items())[:3]}
    kinds = tuple(sorted(prices))[:2]
    network = NetworkCorrection(kinds, np.zeros((2, 1 + len(kinds))), np.array([0.01, -0.01]))
    model = LatencyModel(0.01, prices, 0.001, {kinds[0]: {"calls": 1e-5}}, shapes, network)
    fingerprint = {"cpu": "Some CPU", "threads": 1, "onnxruntime": "1.31.1", "instruction_sets": ["avx2"]}
    return Profile("local", fingerprint, model, HeldOutError(0.03, 0.1, 0.7, 0.9, 80), 0.001, 5.0, 0.1, "mobilenet")


STUDIES: tuple[dict[str, Any], ...] = (
    tiny_values(Path("runs") / STORED, study=STORED, trials=1),
    tiny_values(Path("runs/other"), study="other", data="folder:images", set={"tiny.kernel": [3, 5]}),
    {
        "study": "full",
        "data": "digits",
        "target": "local?threads=1",
        "trials": 5,
        "timeout": 10.5,
        "until": "accuracy >= 0.9 and latency_ms <= 2",
        "objectives": ["accuracy", "latency_ms", "size_bytes"],
        "max_latency_ms": 2.0,
        "techniques": ["prune", "quantize", "distill"],
        "set": {"prune": {"criterion": "l1", "ratio": [0.25, 0.5]}, "quantize.scheme": "static"},
        "teacher": "largest",
        "sampler": "surrogate",
        "baseline": "random",
        "workers": 2,
        "seed": 3,
        "train_images": 200,
        "train": {"samples": 64, "learning_rate": 0.01, "precision": "float32", "finetune_share": 0.1},
    },
)
RECORD: dict[str, Any] = json.loads("""{
    "spec": {"arch": {"space": "tiny", "version": 1, "params": {"width": 4, "features": 8, "kernel": 3}},
             "steps": [{"technique": "prune", "version": 1, "config": {"ratio": 0.5, "criterion": "l1"}}]},
    "evaluation": {
        "key": "0123456789abcdef", "accuracy": 0.5, "latency_ms": 1.0, "latency_low_ms": 0.9, "latency_high_ms": 1.1,
        "latency_source": "predicted", "size_bytes": 1000, "parameters": 200, "macs": 3000, "onnx_sha256": "00",
        "seconds": {"training": 1.5}, "techniques": ["prune"],
        "steps": [{"technique": "prune", "stage": "structure", "seconds": 0.1, "notes": ["half"], "undone": null,
                   "before": {"parameters": 300, "size_bytes": 2000, "latency_ms": 2.0, "accuracy": 0.6},
                   "after": {"parameters": 200, "size_bytes": 1000, "latency_ms": 1.0, "latency_source": "predicted"}}]}
}""")
HELLO: dict[str, Any] = json.loads("""{
    "ok": true, "cpu": "Some CPU", "architecture": "x86_64", "instruction_sets": ["avx2"], "cores": 2, "threads": 1,
    "onnxruntime": "1.31.1", "provider": "CPUExecutionProvider", "providers": ["CPUExecutionProvider"],
    "affinity": [1], "governor": null, "load": 0.5
}""")
LOADED = {"ok": True, "id": 1, "run_ms": 0.5, "warm_up_runs": 6}
VISITED = {"ok": True, "wall_ms": [0.5, 0.6, 0.5], "cpu_ms": [0.5, 0.6, 0.5]}
SENT: tuple[dict[str, Any], ...] = (
    {"command": "hello"},
    {"command": "load", "profile_ms": 1.0},
    {"command": "visit", "id": 1, "duration_ms": 1.0},
    {"command": "unload", "id": 1},
    {"command": "quit"},
)


def frame(header: bytes, payload: bytes = b"", *, length: int | None = None) -> bytes:
    return agent.LENGTH.pack(len(header) if length is None else length) + header + payload


# --- what is damaged


@st.composite
def study_files(draw: DrawFn) -> Case:
    content = draw(damaged_toml(draw(st.sampled_from(STUDIES))))
    return Case("study files", ("search", f"{FOLDER}/study.toml"), {"study.toml": content})


@st.composite
def onnx_files(draw: DrawFn) -> Case:
    content = draw(damaged_model(draw(st.sampled_from(list(SOUND.values())))))
    file = f"{FOLDER}/model.onnx"
    files = {"model.onnx": content, "weights.bin": b"\0" * 64}
    match draw(st.sampled_from(("predict",) * 8 + ("json", "table", "measure"))):
        case "measure":
            arguments: tuple[str, ...] = ("measure", file, "--target", "local?processes=1", "--seconds", "0.1")
        case "table":
            files["table.csv"] = b"path,latency_ms\nmodel.onnx,1.5\n" + f"../{MODEL},2.5\n".encode() * 9
            arguments = ("calibrate", "--from", f"{FOLDER}/table.csv", "-o", f"{FOLDER}/made.json")
        case "json":
            arguments = ("predict", file, "--target", PROFILE, "--json")
        case _:
            arguments = ("predict", file, "--target", PROFILE)
    return Case("ONNX files", arguments, files)


@st.composite
def profiles(draw: DrawFn) -> Case:
    if draw(st.integers(0, 5)) == 0:
        rows = b"path,latency_ms\n" + b"".join(f"../{MODEL},{1.5 + i}\n".encode() for i in range(9))
        arguments = ("calibrate", "--from", f"{FOLDER}/table.csv", "-o", f"{FOLDER}/made.json")
        return Case("profiles", arguments, {"table.csv": draw(damaged_bytes(rows))})
    content = draw(damaged_json(sound_profile().to_json()))
    more = draw(st.sampled_from(((), ("--json",))))
    return Case("profiles", ("predict", MODEL, "--target", f"{FOLDER}/profile.json", *more), {"profile.json": content})


@st.composite
def recipes(draw: DrawFn) -> Case:
    shown: tuple[str, ...] = ("show", STORED, TRIAL)
    exported = ("export", STORED, TRIAL, "-o", f"{FOLDER}/exported")
    arguments = draw(st.sampled_from((shown, (*shown, "--json"), exported)))
    return Case("recipes", arguments, {RECIPE: draw(damaged_json(RECORD))})


def _technique_fields() -> dict[str, Any]:
    """The fields of every technique, of the space and of the engine, with their defaults."""
    found: dict[str, Any] = {"tiny.kernel": 3, "tiny.width": 8}
    for technique in load_plugins().techniques.values():
        config = technique.config_to_json(technique.config_type())
        found |= {f"{technique.name}.{f.name}": config[f.name] for f in fields(technique.config_type)}
        found[f"{technique.name}.enabled"] = True
    return found


@st.composite
def plugin_configs(draw: DrawFn) -> Case:
    sound = _technique_fields()
    names = draw(st.lists(st.sampled_from(sorted(sound)), min_size=1, max_size=3, unique=True))
    techniques = sorted({name.partition(".")[0] for name in names} - {"tiny"})
    chosen = {name: draw(st.one_of(anything, st.just([sound[name]]).flatmap(damaged_value))) for name in names}
    values = {**tiny_values(Path("runs/other"), study="other"), "techniques": techniques}
    if draw(st.booleans()):
        content = "\n".join(f"{json.dumps(k)} = {written(v, toml=True)}" for k, v in {**values, "set": chosen}.items())
        files = {"study.toml": content.encode(errors="surrogatepass")}
        return Case("plugin configs", ("search", f"{FOLDER}/study.toml"), files)
    content = "\n".join(f"{json.dumps(k)} = {written(v, toml=True)}" for k, v in values.items())
    flags: list[str] = []
    for name, value in chosen.items():
        word = value if isinstance(value, str) and draw(st.booleans()) else written(value, toml=False)
        word = draw(st.sampled_from((word, word, f"{word},{word}", f"{word},1", "[" * 3_000)))
        flags += ["--set", f"{name}={word}".replace("\0", "")]  # which no argument can hold
    return Case("plugin configs", ("search", f"{FOLDER}/study.toml", *flags), {"study.toml": content.encode()})


@st.composite
def data_sets(draw: DrawFn) -> Case:
    """Arrays in a file. Pictures in a folder have tests of their own: Pillow is what reads them."""
    values = {**tiny_values(Path("runs/other"), study="other"), "data": f"arrays:{FOLDER}/data.npz"}
    content = "\n".join(f"{json.dumps(k)} = {written(v, toml=True)}" for k, v in values.items())
    files = {"study.toml": content.encode(), "data.npz": draw(damaged_arrays())}
    return Case("data sets", ("search", f"{FOLDER}/study.toml"), files)


@st.composite
def agent_messages(draw: DrawFn) -> Case:
    if draw(st.booleans()):
        return Case("agent messages", (), {REQUESTS: draw(_requests())})
    replies = draw(_replies())
    return Case("agent messages", ("measure", MODEL, "--target", "replayed", "--seconds", "0.1"), {REPLIES: replies})


@st.composite
def _requests(draw: DrawFn) -> bytes:
    """What an agent is asked: damaged headers, lengths and payloads among sound ones."""
    content, models = b"", list(reference_models().values())
    for sent in draw(st.lists(st.sampled_from(SENT), min_size=1, max_size=4)):
        payload, header = b"", dict(sent)
        if sent["command"] == "load":
            payload = draw(st.sampled_from(models))[:200_000]
            payload = draw(st.one_of(st.just(payload[:100]), st.binary(max_size=50), st.just(payload)))
            header["bytes"] = len(payload)
        raw = json.dumps(header).encode()
        match draw(st.sampled_from(("sound", "header", "header", "length", "payload", "bytes"))):
            case "header":
                raw = draw(damaged_json(header))
            case "payload":
                payload = draw(damaged_bytes(payload)) if payload else b"x"
            case "length":
                length = draw(st.sampled_from((0, 1, len(raw) - 1, len(raw) + 1, agent.HEADER_LIMIT, 2**31, 2**32 - 1)))
                content += frame(raw, payload, length=length)
                continue
            case "bytes":
                long = "x" * draw(st.sampled_from((1, agent.HEADER_LIMIT // 2)))
                raw = json.dumps({**header, "command": long}).encode()
        content += frame(raw, payload)
    return content


@st.composite
def _replies(draw: DrawFn) -> bytes:
    """What a device answers to a measurement, with one or two replies damaged."""
    loads = [{**LOADED, "id": i + 1} for i in range(4)]
    answers: list[Any] = [HELLO, *loads[:3], VISITED, VISITED, VISITED, loads[3], *[VISITED] * 60]
    frames = [frame(json.dumps(answer).encode()) for answer in copy.deepcopy(answers)]
    for _ in range(draw(st.integers(1, 2))):
        place = draw(st.integers(0, 11))
        raw = draw(st.one_of(damaged_json(answers[place]), st.just(b'{"ok": false, "error": "no\\nway"}')))
        length = draw(st.sampled_from((None, None, None, 0, 2**32 - 1)))
        frames[place] = frame(raw, length=length)
    return b"".join(frames)


KINDS: dict[str, SearchStrategy[Case]] = {
    "study files": study_files(),
    "ONNX files": onnx_files(),
    "profiles": profiles(),
    "recipes": recipes(),
    "plugin configs": plugin_configs(),
    "data sets": data_sets(),
    "agent messages": agent_messages(),
}
