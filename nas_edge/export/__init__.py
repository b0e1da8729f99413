"""From a torch model to an ONNX file, and that file's accuracy in ONNX Runtime."""

from nas_edge.export.onnx_file import describe, export_onnx, save_model, sha256_of
from nas_edge.export.runtime import accuracy, check_parity, hits, logits, session

__all__ = [
    "accuracy",
    "check_parity",
    "describe",
    "export_onnx",
    "hits",
    "logits",
    "save_model",
    "session",
    "sha256_of",
]
