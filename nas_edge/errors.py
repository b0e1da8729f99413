"""The errors of nas_edge, worded for the person who reads them.

A message says what was wrong, with its value, and what to do about it. The command line turns a `UserError` or a
`MeasurementError` into one line and exit status 2; any other error is our fault and exits with 1.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class NasEdgeError(Exception):
    """Base of every error that nas_edge raises on purpose."""


class UserError(NasEdgeError):
    """Something that the user can mend: a wrong name, value, file or combination."""


class PluginError(UserError):
    """A plugin is broken, missing, or clashes with another one."""


class DataError(UserError):
    """A data set is missing, empty or damaged."""


class StudyMismatch(UserError):
    """A stored study was made with other plugins, another search space or other data."""


class StorageError(UserError):
    """A study's database or output folder cannot be opened, read or written."""


class ModelError(UserError):
    """A file is not an ONNX model that can be used here."""


class InvalidCandidate(NasEdgeError):
    """A candidate, or a technique's config, that cannot be built. Name the field, its value and the remedy.

    Raised inside a search it costs that trial alone.
    """


class ExportError(NasEdgeError):
    """A model could not be written as an ONNX file, or computes something else there."""


class MeasurementError(NasEdgeError):
    """A latency could not be measured on the target: its device, or the way there, is to be mended.

    No `UserError`, for a search goes on without the measurement.
    """


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UserError:
    """The error for a name that nothing is registered under, with the nearest known one suggested."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else "known: " + (", ".join(names) or "none")
    return UserError(f"unknown {kind} {name!r}; {hint}")
