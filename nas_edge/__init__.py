"""nas_edge: search for the most accurate vision model that runs within a latency budget on your CPU.

This module is the public API: all that a plugin may import, with `nas_edge.testing`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from nas_edge.contracts import (
    Augmentation,
    Candidate,
    Context,
    DataSource,
    ImageData,
    Objective,
    Scope,
    SearchSpace,
    Split,
    Supernet,
    Target,
    Technique,
    Trainer,
)
from nas_edge.cpu import channel_block, int8_saturates
from nas_edge.errors import (
    DataError,
    ExportError,
    InvalidCandidate,
    MeasurementError,
    ModelError,
    NasEdgeError,
    PluginError,
    StorageError,
    StudyMismatch,
    UserError,
)
from nas_edge.hookspecs import hookimpl
from nas_edge.records import Evaluation, Figures, Kernel, Measurement, Prediction, StepRecord
from nas_edge.spec import ArchSpec, CandidateSpec, Step

__version__ = "0.1.0"

if TYPE_CHECKING:
    from nas_edge.api import calibrate, compress, load_study, sampler, search
    from nas_edge.data.vision import import_torchvision, torchvision_network
    from nas_edge.engine.progress import Progress
    from nas_edge.report.compression import Compression
    from nas_edge.report.study import Study

_LATER = {  # they need torch: imported when first asked for
    "Compression": "nas_edge.report.compression",
    "Progress": "nas_edge.engine.progress",
    "Study": "nas_edge.report.study",
    "calibrate": "nas_edge.api",
    "compress": "nas_edge.api",
    "import_torchvision": "nas_edge.data.vision",
    "load_study": "nas_edge.api",
    "sampler": "nas_edge.api",
    "search": "nas_edge.api",
    "torchvision_network": "nas_edge.data.vision",
}


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(importlib.import_module(_LATER[name]), name)
    raise AttributeError(f"module 'nas_edge' has no attribute {name!r}")


__all__ = [
    "ArchSpec",
    "Augmentation",
    "Candidate",
    "CandidateSpec",
    "Compression",
    "Context",
    "DataError",
    "DataSource",
    "Evaluation",
    "ExportError",
    "Figures",
    "ImageData",
    "InvalidCandidate",
    "Kernel",
    "Measurement",
    "MeasurementError",
    "ModelError",
    "NasEdgeError",
    "Objective",
    "PluginError",
    "Prediction",
    "Progress",
    "Scope",
    "SearchSpace",
    "Split",
    "Step",
    "StepRecord",
    "StorageError",
    "Study",
    "StudyMismatch",
    "Supernet",
    "Target",
    "Technique",
    "Trainer",
    "UserError",
    "__version__",
    "calibrate",
    "channel_block",
    "compress",
    "hookimpl",
    "import_torchvision",
    "int8_saturates",
    "load_study",
    "sampler",
    "search",
    "torchvision_network",
]
