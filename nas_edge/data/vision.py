"""The one door to torchvision, also on machines where a plain `import torchvision` fails."""

from __future__ import annotations

import importlib
import threading
from types import ModuleType
from typing import TYPE_CHECKING, Any

from nas_edge.errors import unknown_name

if TYPE_CHECKING:
    from torch import nn

# Their classifiers of training alone would give more than the logits.
WITHOUT_EXTRAS = {name: {"aux_logits": False, "init_weights": False} for name in ("googlenet", "inception_v3")}
# A torch.library.Library takes its declarations back when it is collected, so it lives as long as the process.
_declared: list[Any] = []
_lock = threading.Lock()


def import_torchvision() -> ModuleType:
    """The torchvision module, also where its wheel was built for another torch.

    Without CUDA, torch is a CPU build while torchvision's wheel is linked against CUDA: its compiled operators do not
    load, and the import stops with "operator torchvision::nms does not exist". Only then the two missing schemas are
    declared and the import is tried again: models, transforms and data sets work, and only `nms` itself does not.
    """
    with _lock:
        try:
            return importlib.import_module("torchvision")
        except RuntimeError as error:
            if _declared or "torchvision::nms does not exist" not in str(error):
                raise
        _declared.append(_declare_schemas())
        return importlib.import_module("torchvision")


def torchvision_network(name: str, *, in_channels: int, num_classes: int) -> nn.Module:
    """One of torchvision's classifiers with random weights, its first convolution made for `in_channels`.

    Raises `UserError` for a name that torchvision does not have.
    """
    models = import_torchvision().models
    names = models.list_models(module=models)
    if name not in names:
        raise unknown_name("network of torchvision", name, names)
    model: nn.Module = models.get_model(name, weights=None, num_classes=num_classes, **WITHOUT_EXTRAS.get(name, {}))
    _adapt_input(model, in_channels)
    return model


def _declare_schemas() -> Any:
    from torch.library import Library

    library: Any = Library("torchvision", "DEF")
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library


def _adapt_input(model: nn.Module, in_channels: int) -> None:
    """Replace the first convolution where it takes another number of channels."""
    from torch import nn

    name, conv = next((name, module) for name, module in model.named_modules() if isinstance(module, nn.Conv2d))
    if conv.in_channels == in_channels:
        return
    new = nn.Conv2d(
        in_channels,
        conv.out_channels,
        conv.kernel_size,  # type: ignore[arg-type]
        conv.stride,  # type: ignore[arg-type]
        conv.padding,  # type: ignore[arg-type]
        bias=conv.bias is not None,
    )
    nn.init.kaiming_normal_(new.weight, mode="fan_out", nonlinearity="relu")
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, new)
