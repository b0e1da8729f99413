"""Measured networks as matrices: how much of each kind of work each of them holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nas_edge.latency.graph import Work
from nas_edge.latency.model import Array
from nas_edge.latency.walk import KernelWork


@dataclass(frozen=True)
class Kind:
    """The kernels of one kind in all networks.

    `network` `[kernels]` says whose each is, `logs` `[kernels, sizes]` are the logarithms (base 2) of their sizes,
    `amounts` `[kernels, features]` their work, with a `column` of `Networks.amounts` for each feature.
    """

    name: str
    features: tuple[str, ...]
    columns: tuple[int, ...]
    network: npt.NDArray[np.int64]
    logs: Array
    amounts: Array


class Networks:
    """Networks and the kernels in them. Column 0 of `amounts` `[networks, columns]` is a run, 1 for each."""

    def __init__(self, works: Sequence[Work]) -> None:
        self.works = list(works)
        found: dict[str, list[tuple[int, KernelWork]]] = {}
        for index, work in enumerate(self.works):
            for kernel in work.kernels:
                found.setdefault(kernel.kind, []).append((index, kernel))
        self.kinds: list[Kind] = []
        self.columns: list[tuple[str, str]] = []
        for name in sorted(found):
            self.kinds.append(self._kind(name, found[name]))
        self.amounts = np.zeros((len(self.works), 1 + len(self.columns)))
        self.amounts[:, 0] = 1
        for kind in self.kinds:
            for place, column in enumerate(kind.columns):
                np.add.at(self.amounts[:, column], kind.network, kind.amounts[:, place])

    def _kind(self, name: str, kernels: Sequence[tuple[int, KernelWork]]) -> Kind:
        features = tuple(sorted({feature for _, kernel in kernels for feature in kernel.features}))
        first = 1 + len(self.columns)
        self.columns += [(name, feature) for feature in features]
        return Kind(
            name,
            features,
            tuple(range(first, first + len(features))),
            np.array([index for index, _ in kernels]),
            np.log2([kernel.dims for _, kernel in kernels]),
            np.array([[kernel.features.get(f, 0.0) for f in features] for _, kernel in kernels]),
        )

    def by_name(self, values: Array) -> dict[str, dict[str, float]]:
        """One value a column, without the run's, as kind -> feature -> value."""
        table: dict[str, dict[str, float]] = {}
        for (kind, feature), value in zip(self.columns, values[1:], strict=True):
            table.setdefault(kind, {})[feature] = float(value)
        return table
