"""The one door to torchvision, for machines where a plain `import torchvision` fails."""

from __future__ import annotations

import importlib
import threading
from types import ModuleType
from typing import Any

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


def _declare_schemas() -> Any:
    from torch.library import Library

    library: Any = Library("torchvision", "DEF")
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library
