"""Networks by name: `torchvision:NAME[:WEIGHTS]` and `module:function[:WEIGHTS]`.

`WEIGHTS` is the path of a state dict, which `torch.load(weights_only=True)` reads: a file of weights runs no code.
From Python a network may be given as it is: within `live_models` it has a name too, `python:CLASS-HASH`.
"""

from __future__ import annotations

import copy
import hashlib
import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from nas_edge.contracts import ImageData
from nas_edge.data.preprocess import Preprocess
from nas_edge.data.vision import torchvision_network
from nas_edge.errors import UserError, unknown_name
from nas_edge.model_names import PYTHON, TORCHVISION, ModelReference
from nas_edge.train.weights import BadWeights, read_weights

SMALLEST_SIDE = 32  # torchvision's networks leave no map of smaller images
NAMES_SHOWN = 3
_live: ContextVar[Mapping[str, nn.Module]] = ContextVar("live", default=MappingProxyType({}))


def load_model(reference: str | ModelReference, data: ImageData, *, seed: int = 0) -> nn.Module:
    """The network in evaluation mode: images as the data has them, float32 in 0..1, to logits `[batch, classes]`.

    One of torchvision is made for the channels and classes of the data, initialised from `seed`, and stands behind a
    `Preprocess` that normalises by the data's mean and std and enlarges images below 32 pixels. Its weights are those
    of the network, or of all with the preprocessing. A function is called without arguments, and what it gives takes
    the images as they are; it may stand in the current folder.

    Raises `UserError` with the reference and the remedy: for a name, a function or a file that does not exist, weights
    that are no state dict or do not fit, and a network for other images or another number of classes.
    """
    if isinstance(reference, str):
        reference = ModelReference.parse(reference)
    model = bare_model(reference, data, seed=seed)
    if reference.weights is not None:
        _load_weights(model, reference, data)
    _check_outputs(model, reference, data)
    return model


def bare_model(reference: ModelReference, data: ImageData, *, seed: int = 0) -> nn.Module:
    """The same without its file of weights, and unchecked: to load a state dict that is known to fit."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if reference.source == PYTHON:
            return _from_python(reference)
        if reference.source != TORCHVISION:
            return _from_function(reference)
        side = max(data.resolution, SMALLEST_SIDE)
        try:
            network = torchvision_network(reference.name, in_channels=data.channels, num_classes=len(data.classes))
        except UserError as error:
            raise UserError(f"{reference.field}={reference.text!r}: {error}") from None
    return nn.Sequential(Preprocess(data.mean, data.std, data.resolution, side), network).eval()


# --- objects of Python


def live_name(model: nn.Module) -> str:
    """The name of a network that is given as an object: by its class and its weights."""
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy().data)
    return f"{PYTHON}:{type(model).__name__}-{digest.hexdigest()[:8]}"


@contextmanager
def live_models(models: Mapping[str, nn.Module]) -> Iterator[None]:
    """Let these be found by their names in the block."""
    token = _live.set({**_live.get(), **models})
    try:
        yield
    finally:
        _live.reset(token)


def _from_python(reference: ModelReference) -> nn.Module:
    model = _live.get().get(reference.text)
    if model is None:
        raise reference.refuse(
            "was given from Python as an object, which this process does not have",
            "go on from Python with the same call, or name the network module:function from the start",
        )
    return copy.deepcopy(model).cpu().eval()


# --- functions


def _from_function(reference: ModelReference) -> nn.Module:
    with _current_folder_first():
        make = _function(reference)
        try:
            model = make()
        except (Exception, SystemExit) as error:
            raise reference.refuse(f"raised {_said(error)}", "it is called without arguments; mend it") from error
    if not isinstance(model, nn.Module):
        raise reference.refuse(f"gave {type(model).__name__}", "it must return a torch.nn.Module")
    return copy.deepcopy(model).cpu().eval()


def _function(reference: ModelReference) -> Callable[[], Any]:
    try:
        module = importlib.import_module(reference.source)
    except (Exception, SystemExit) as error:
        raise reference.refuse(
            f"cannot be imported: {_said(error)}", "install its package, or run in the folder of its file"
        ) from error
    found = getattr(module, reference.name, None)
    if not callable(found):
        there = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
        raise reference.refuse("names no function", str(unknown_name("function", reference.name, there)))
    make: Callable[[], Any] = found
    return make


@contextmanager
def _current_folder_first() -> Iterator[None]:
    """Let modules of the current folder be found, as `python -m` does."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)


# --- weights


def _load_weights(model: nn.Module, reference: ModelReference, data: ImageData) -> None:
    state = _read_state_dict(reference)
    if isinstance(model, nn.Sequential) and state.keys() != model.state_dict().keys() and len(model) == 2:
        model = model[1]  # that of the network without its preprocessing
    expected = model.state_dict()
    missing, unexpected = expected.keys() - state.keys(), state.keys() - expected.keys()
    if missing or unexpected:
        unlike = [f"{what} {_some(names)}" for what, names in (("no", missing), ("also", unexpected)) if names]
        raise reference.refuse(
            f"does not have these weights: the file has {' and '.join(unlike)}", "give a state dict of this network"
        )
    if unlike := sorted(name for name in expected if expected[name].shape != state[name].shape):
        raise reference.refuse(_unlike(model, state, unlike, data), "train it on this data, or leave the weights out")
    model.load_state_dict(state)


def _read_state_dict(reference: ModelReference) -> Mapping[str, Tensor]:
    path = reference.weights
    save = f"save one with torch.save(model.state_dict(), {str(path)!r})"
    if path is None or not path.is_file():
        raise reference.refuse(f"has no file of weights {str(path)!r}", "give the path of a state dict")
    try:
        state = read_weights(path)
    except BadWeights as error:
        raise reference.refuse(
            f"has weights that are no state dict, which torch.load(weights_only=True) reads: {error}", save
        ) from None
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()) or not state:
        raise reference.refuse(f"has weights that are {_kind(state)}, no state dict of names and tensors", save)
    return state


def _kind(found: object) -> str:
    """What was read in place of a state dict."""
    if isinstance(found, Mapping):
        return f"a mapping with {_some(str(name) for name in found)}"
    return f"a {type(found).__name__}"


def _unlike(model: nn.Module, state: Mapping[str, Tensor], names: list[str], data: ImageData) -> str:
    """What the weights of other shapes are for."""
    layers = [(name, m) for name, m in model.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    (first, _), (last, classifier) = layers[0], layers[-1]
    given = {name: state[name].shape for name in names}
    classes, channels = (given.get(f"{layer}.weight", ()) for layer in (last, first))
    if classes and classes[0] != classifier.weight.shape[0]:
        return f"has weights for {classes[0]} classes but the data has {len(data.classes)}"
    if len(channels) > 1:
        return f"has weights for {channels[1]} channels but the data has {data.channels}"
    return f"has weights of other shapes: {_some(names)}"


# --- what it computes


@torch.no_grad()
def _check_outputs(model: nn.Module, reference: ModelReference, data: ImageData) -> None:
    images = data.train.images[:2].float() / 255
    try:
        with torch.random.fork_rng(devices=[]):
            outputs = model(images)
    except Exception as error:
        shape = "x".join(map(str, images.shape[1:]))
        raise reference.refuse(
            f"does not run on images of {shape}: {_said(error)}", "give a network for such images in 0..1"
        ) from error
    classes = len(data.classes)
    if not isinstance(outputs, Tensor) or outputs.ndim != 2 or len(outputs) != len(images):
        given = list(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        raise reference.refuse(f"gives {given} for {len(images)} images", f"it must give [{len(images)}, {classes}]")
    if outputs.shape[1] != classes:
        raise reference.refuse(
            f"gives {outputs.shape[1]} classes but the data has {classes}", "train it on this data, or choose another"
        )


def _some(names: Any) -> str:
    """A few of many names."""
    names = sorted(names)
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(names[:NAMES_SHOWN]) + more


def _said(error: BaseException) -> str:
    """An error in one short line."""
    text = " ".join(str(error).split())[:200]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
